use proptest::prelude::*;

use super::*;

fn host(text: &str) -> HostName {
    HostName::parse(text).unwrap()
}

fn matches(pattern: &str, name: &str) -> bool {
    Pattern::parse(pattern).unwrap_or_else(|error| panic!("{pattern:?}: {error}")).matches(&host(name))
}

fn reason(pattern: &str) -> (String, String) {
    let error = Pattern::parse(pattern).unwrap_err();
    (pattern[error.range.clone()].to_owned(), error.to_string())
}

#[test]
fn globs_are_those_of_fnmatch() {
    for (pattern, name, expected) in [
        ("pg*.iad1.psf.io", "pg0.iad1.psf.io", true),
        ("pg*.iad1.psf.io", "pg0.x.iad1.psf.io", true),
        ("pg?.io", "pg.io", false),
        ("pg[01].io", "pg1.io", true),
        ("pg[!01].io", "pg1.io", false),
        ("pg[!01].io", "pg2.io", true),
        ("[]a]", "a", true),
        ("[!]a]", "a", false),
        ("[a-c-e]", "e", true),
        ("[a-c-e]", "d", false),
        ("[z-a]", "b", false),
        ("[!z-a]", "b", true),
        ("PG*", "pg0", false),
        ("pg", "pg0", false),
        ("*", "anything", true),
        ("**a**b", "xaxb", true),
        ("a*b*c", "abcbc", true),
        ("[", "a", false),
        ("a[b", "ab", false),
    ] {
        assert_eq!(matches(pattern, name), expected, "{pattern} on {name}");
    }
}

#[test]
fn a_regular_expression_matches_the_whole_name_or_nothing() {
    assert!(matches("E@(consul|salt-master).vagrant.psf.io", "consul.vagrant.psf.io"));
    assert!(!matches("E@(consul|salt-master).vagrant.psf.io", "consul.vagrant.psf.io.evil.io"));
    assert!(!matches("E@a|b", "ax"));
    assert!(matches("E@pg\\d+\\.io", "pg17.io"));
    assert!(matches("E@[]a]+", "aa"));
}

#[test]
fn operators_bind_as_in_salt() {
    for (pattern, name, expected) in [
        ("a or b and c", "a", true),
        ("( a or b ) and c", "a", false),
        ("not a and b", "b", true),
        ("not a or a", "a", true),
        ("* not a", "a", false),
        ("* not a", "b", true),
        ("not ( a or b )", "c", true),
        ("pg*.iad1.psf.io and not pg0.iad1.psf.io", "pg0.iad1.psf.io", false),
        ("pg*.iad1.psf.io and not pg0.iad1.psf.io", "pg1.iad1.psf.io", true),
        ("L@a,b,c and not L@b,", "a", true),
        ("L@a,b,c and not L@b,", "b", false),
        (" a\t or  b ", "b", true),
    ] {
        assert_eq!(matches(pattern, name), expected, "{pattern} on {name}");
    }
}

#[test]
fn what_a_host_says_about_itself_decides_nothing() {
    for pattern in ["G@os:Debian", "P@os:.*", "I@role:db", "J@role:.*", "G:@os:x", "* and G@a:b"] {
        let (_, message) = reason(pattern);
        assert!(message.contains("rests on what a host says about itself"), "{pattern}: {message}");
    }
    for pattern in ["S@10.0.0.0/8", "N@group", "R@%range", "T@x", "M@x", "x@y", "e@a"] {
        assert!(Pattern::parse(pattern).is_err(), "{pattern}");
    }
}

#[test]
fn every_refusal_points_at_the_words_it_is_about() {
    for (pattern, at, contains) in [
        ("", "", "empty"),
        ("  ", "  ", "empty"),
        ("a and", "and", "needs a pattern after it"),
        ("and a", "and", "needs a pattern before it"),
        ("a or and b", "and", "needs a pattern before it"),
        ("a b", "b", "missing before this"),
        ("a and ( b or c", "(", "never closed"),
        ("a (", "(", "missing before this"),
        ("( )", "(", "needs a pattern after it"),
        ("a )", ")", "closes nothing"),
        (")", ")", "closes nothing"),
        ("(a or b)", "(a", "white space on both sides"),
        ("not not a", "not", "cannot follow"),
        ("x or L@", "L@", "needs host names"),
        ("L@a,B,c", "B", "no host name"),
        ("a and E@", "", "needs a regular expression"),
        ("a and E@(?=b)c", "(?=b)c", "look-ahead"),
        ("E@(a)\\1", "(a)\\1", "back-references"),
        ("E@a(b", "a(b", "unclosed group"),
        ("E@a)|(?:b", "a)|(?:b", "unopened group"),
        ("E@(?x)a#b", "(?x)a#b", "not a regular expression"),
        ("E@((a{99}){99}){99}", "((a{99}){99}){99}", "too large"),
        ("E@a++b", "++", "quantifier"),
        ("E@[a[b]", "[", "inside brackets"),
        ("E@[a&&b]", "&&", "doubled"),
        ("E@a{,3}", "{,", "lower bound"),
    ] {
        let (place, message) = reason(pattern);
        assert!(place == at && message.contains(contains), "{pattern:?}: {place:?} {message}");
    }
    assert_eq!(Pattern::parse(&"(".repeat(5_000)).unwrap_err().reason, Reason::TooLong(5_000));
    assert_eq!(Pattern::parse(&"( ".repeat(40)).unwrap_err().reason, Reason::TooDeep);
}

#[test]
fn no_glob_takes_exponential_time() {
    let pattern = Pattern::parse(&format!("{}b", "a*".repeat(2_000))).unwrap();
    let name = host(&["a".repeat(60), "a".repeat(60), "a".repeat(60), "a".repeat(60)].join("."));
    let start = std::time::Instant::now();
    assert!(!pattern.matches(&name));
    assert!(start.elapsed().as_secs() < 2);
}

proptest! {
    #[test]
    fn reading_a_pattern_never_panics(text in "\\PC{0,40}") {
        let _ = Pattern::parse(&text);
    }

    #[test]
    fn reading_and_matching_pattern_like_texts_never_panics(
        words in proptest::collection::vec("and|or|not|\\(|\\)|[a-c.*?!\\[\\]-]{1,6}|E@[a-c.*+?|()\\[\\]{}\\\\^$,0-9&-]{0,10}|L@[a-c,.]{0,6}|[A-Z]@x", 0..8),
        name in "[a-c0-9]{1,8}\\.[a-c]{1,3}",
    ) {
        let text = words.join(" ");
        match Pattern::parse(&text) {
            Ok(pattern) => { let _ = pattern.matches(&host(&name)); }
            Err(error) => prop_assert!(text.get(error.range.clone()).is_some(), "{:?} {:?}", text, error),
        }
    }

    #[test]
    fn a_name_without_wildcards_matches_itself_alone(a in "[a-c]{1,3}", b in "[a-c]{1,3}") {
        prop_assert_eq!(matches(&a, &b), a == b);
    }
}
