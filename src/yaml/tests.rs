use super::*;

fn read(text: &str) -> (Option<Node>, String) {
    let mut out = Diagnostics::new();
    let node = parse(&SourceFile::new("f", text.to_owned()), &mut out);
    (node, out.to_string())
}

fn scalar_spans<'t>(node: &Node, text: &'t str, into: &mut Vec<&'t str>) {
    match &node.value {
        Value::Scalar { .. } => into.push(&text[node.span.clone()]),
        Value::Sequence(items) => items.iter().for_each(|item| scalar_spans(item, text, into)),
        Value::Mapping(entries) => {
            for entry in entries {
                into.push(&text[entry.key_span.clone()]);
                scalar_spans(&entry.value, text, into);
            }
        }
    }
}

#[test]
fn every_scalar_knows_exactly_where_it_stands() {
    let text = "# é comment\nrôles:\n  pg: \"pg*.io\"   # c\n  lb: 'x''y'  # '\n  l: [a, \"b\"]\n  plain: a and b   # trailing\n  n:\n";
    let (node, errors) = read(text);
    assert_eq!(errors, "");
    let mut spans = Vec::new();
    scalar_spans(&node.unwrap(), text, &mut spans);
    assert_eq!(spans, ["rôles", "pg", "\"pg*.io\"", "lb", "'x''y'", "l", "a", "\"b\"", "plain", "a and b", "n", ""]);
}

#[test]
fn a_place_inside_a_scalar_is_found_again() {
    let file = SourceFile::new("f", "a: \"pg* and\"\nb: pg* and\nc: \"a\\tb\"\n".into());
    let root = parse(&file, &mut Diagnostics::new()).unwrap();
    let Value::Mapping(entries) = root.value else { panic!("a mapping") };
    let at = |index: usize, range| &file.text()[entries[index].value.locate(&file, range)];
    assert_eq!(at(0, 4..7), "and");
    assert_eq!(at(1, 4..7), "and");
    assert_eq!(at(2, 0..1), "\"a\\tb\"");
}

#[test]
fn what_a_declaration_has_no_use_for_is_refused_by_name() {
    for (text, message) in [
        ("a: &x 1\n", "f:1:4: error: YAML anchors (&name) are not supported"),
        ("a: !!int 1\n", "f:1:4: error: YAML tags (!name) are not supported"),
        ("a:\n  <<: b\n", "f:2:3: error: YAML merge keys (<<) are not supported"),
        ("? [a]\n: b\n", "f:1:3: error: a list or mapping cannot be a key"),
        ("a: 1\n---\nb: 2\n", "f:2:1: error: a second YAML document begins here; one file holds one document"),
        ("# nothing\n", "f:1:1: error: the file is empty"),
        ("", "f:1:1: error: the file is empty"),
        ("\u{feff}a: 1\n", "f:1:1: error: the file begins with a byte order mark"),
    ] {
        assert_eq!(read(text).1, message, "{text:?}");
    }
    assert!(read(&"[".repeat(200)).1.contains("nesting is too deep"));
}

#[test]
fn jinja_is_reported_before_the_yaml_errors_it_causes() {
    let (node, errors) = read("roles:\n{% if x %}\n  a: {{ b }}\n{# c #}\n{% endif %}\n");
    assert_eq!(node, None);
    assert_eq!(errors.lines().count(), 4);
    assert!(errors.lines().all(|line| line.ends_with("error: Jinja is not evaluated")), "{errors}");
    assert!(read("#!py\ndef run(): pass\n").1.contains("asks for a Salt renderer"));
    assert_eq!(read("#!yaml\na: 1\n").1, "");
}

#[test]
fn a_syntax_error_has_a_place() {
    assert!(read("a:\n\tb: 1\n").1.starts_with("f:2:"), "{}", read("a:\n\tb: 1\n").1);
    assert!(read("a: \"x\nb: 1\n").1.starts_with("f:"), "{}", read("a: \"x\nb: 1\n").1);
    assert!(read("a: *x\n").1.contains("f:1:4"), "{}", read("a: *x\n").1);
}

#[test]
fn two_equal_keys_are_reported_with_both_places() {
    let mut out = Diagnostics::new();
    let file = SourceFile::new("f", "a:\n  b: 1\n  c: 2\n  b: 3\n".into());
    assert!(parse(&file, &mut out).is_some());
    let shown = out.render(false);
    assert!(shown.contains("f:4:3") && shown.contains("first here"), "{shown}");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "[ \\[\\]{}:,a\"'|>&*!%@#?\\-\n\té0]{0,40}") {
        let _ = read(&text);
    }
}
