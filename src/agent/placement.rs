//! Where a name's bundle goes: one combined file that is the bundle, and copies of it in the forms that
//! services want. The bundle alone decides what is due; copies are made from it and nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::probe::Probe;
use crate::name::DnsName;

/// A place for a file with a private key in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where.
    pub path: PathBuf,
    /// Its owner, a name or a number.
    pub owner: String,
    /// Its group, a name or a number.
    pub group: String,
    /// Its permission bits; none for others.
    pub mode: u32,
}

/// A further form of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// Where, and whose.
    pub place: Place,
    /// In which form.
    pub layout: Layout,
}

/// The forms of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// Leaf, issuing CAs, private key: the bundle itself.
    Combined,
    /// Private key, leaf, issuing CAs, as Postfix wants its chain files.
    KeyFirst,
    /// A directory with `tls.crt` (leaf, issuing CAs), `tls.key` and `ca.crt` (the trusted roots).
    Split,
    /// The manifest of a Kubernetes secret of type `kubernetes.io/tls`, with the same three entries.
    KubernetesSecret,
    /// The same as the bundle in PKCS#12, a keystore of Java.
    Pkcs12 {
        /// The file with its password; without one it is the conventional password.
        password_file: Option<PathBuf>,
    },
}

/// Where everything goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The directory of the bundles that have no place of their own, and their owner, group and mode.
    pub default: Place,
    names: BTreeMap<DnsName, Named>,
}

/// What is said of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    place: Place,
    copies: Vec<Copy>,
    probes: Vec<Probe>,
}

impl Placement {
    /// Where the bundle of `name` is.
    #[must_use]
    pub fn bundle(&self, name: &DnsName) -> Place {
        // A DnsName has no slash and no leading dot, so this stays in the directory.
        let usual = || Place { path: self.default.path.join(format!("{name}.pem")), ..self.default.clone() };
        self.names.get(name).map_or_else(usual, |named| named.place.clone())
    }

    /// The copies of that bundle.
    #[must_use]
    pub fn copies(&self, name: &DnsName) -> &[Copy] {
        self.names.get(name).map_or(&[], |named| &named.copies)
    }

    /// The services that have to prove that they serve it.
    #[must_use]
    pub fn probes(&self, name: &DnsName) -> &[Probe] {
        self.names.get(name).map_or(&[], |named| &named.probes)
    }

    /// The names that have settings of their own.
    pub fn named(&self) -> impl Iterator<Item = &DnsName> {
        self.names.keys()
    }

    /// Every place with settings of its own, with the name that it belongs to.
    pub fn own_places(&self) -> impl Iterator<Item = (&DnsName, &Place)> {
        self.names.iter().flat_map(|(name, Named { place, copies, .. })| {
            std::iter::once(place).chain(copies.iter().map(|copy| &copy.place)).map(move |place| (name, place))
        })
    }
}

/// `names` in host.yaml.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawName {
    path: Option<PathBuf>,
    owner: Option<String>,
    group: Option<String>,
    mode: Option<String>,
    copies: Vec<RawCopy>,
    probe: RawProbes,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum RawProbes {
    One(String),
    Several(Vec<String>),
}

impl Default for RawProbes {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl RawProbes {
    fn read(self) -> Result<Vec<Probe>, String> {
        let texts = match self {
            Self::One(text) => vec![text],
            Self::Several(texts) => texts,
        };
        texts.iter().map(|text| Probe::parse(text).map_err(|error| error.to_string())).collect()
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCopy {
    path: PathBuf,
    layout: RawLayout,
    password_file: Option<PathBuf>,
    owner: Option<String>,
    group: Option<String>,
    mode: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawLayout {
    Combined,
    KeyFirst,
    Split,
    KubernetesSecret,
    Pkcs12,
}

impl RawLayout {
    fn with(self, password_file: Option<PathBuf>) -> Result<Layout, String> {
        Ok(match (self, password_file) {
            (Self::Pkcs12, password_file) => Layout::Pkcs12 { password_file },
            (_, Some(_)) => return Err("password_file goes with `layout: pkcs12` alone".to_owned()),
            (Self::Combined, None) => Layout::Combined,
            (Self::KeyFirst, None) => Layout::KeyFirst,
            (Self::Split, None) => Layout::Split,
            (Self::KubernetesSecret, None) => Layout::KubernetesSecret,
        })
    }
}

/// The permission bits of a file with a private key.
pub(super) fn parse_mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| mode & !0o770 == 0 && mode & 0o600 == 0o600);
    mode.ok_or_else(|| format!("mode {text:?} would not do for a private key; write it as \"0640\" or \"0600\""))
}

/// What is not said of a name is as in `default`; what is not said of a copy is as with its bundle.
pub(super) fn read(default: Place, names: BTreeMap<DnsName, RawName>, base: &Path) -> Result<Placement, String> {
    let mut read = Placement { default, names: BTreeMap::new() };
    for (name, raw) in names {
        let usual = read.bundle(&name);
        let place = within(
            &usual,
            raw.path.map_or(usual.path.clone(), |path| base.join(path)),
            raw.owner,
            raw.group,
            raw.mode,
        )?;
        let copies = raw.copies.into_iter().map(|raw| {
            let place = within(&place, base.join(raw.path), raw.owner, raw.group, raw.mode)?;
            let layout = raw.layout.with(raw.password_file.map(|path| base.join(path)))?;
            Ok(Copy { place, layout })
        });
        let copies = copies.collect::<Result<_, String>>()?;
        let probes = raw.probe.read()?;
        read.names.insert(name, Named { place, copies, probes });
    }
    let mut taken = BTreeMap::new();
    for (name, place) in read.own_places() {
        if let Some(other) = taken.insert(&place.path, name) {
            return Err(format!("{} is where two files would go: of {other} and of {name}", place.path.display()));
        }
        // The file of a name that has no settings of its own.
        let usual = place.path.strip_prefix(&read.default.path).ok().and_then(Path::to_str);
        let other = usual.and_then(|file| DnsName::parse(file.strip_suffix(".pem")?).ok());
        if other.is_some_and(|other| other != *name && !read.names.contains_key(&other)) {
            return Err(format!("{} is where the bundle of another name would go", place.path.display()));
        }
    }
    Ok(read)
}

fn within(
    usual: &Place,
    path: PathBuf,
    owner: Option<String>,
    group: Option<String>,
    mode: Option<String>,
) -> Result<Place, String> {
    Ok(Place {
        path,
        owner: owner.unwrap_or_else(|| usual.owner.clone()),
        group: group.unwrap_or_else(|| usual.group.clone()),
        mode: mode.map_or(Ok(usual.mode), |mode| parse_mode(&mode))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(names: &str) -> Result<Placement, String> {
        let default =
            Place { path: "/etc/ssl/private".into(), owner: "root".into(), group: "ssl-cert".into(), mode: 0o640 };
        let names = serde_yaml::from_str(names).map_err(|error| error.to_string())?;
        read(default, names, Path::new("/etc/psfca"))
    }

    fn name(text: &str) -> DnsName {
        DnsName::parse(text).unwrap()
    }

    #[test]
    fn what_is_not_said_of_a_name_is_as_for_all_and_of_a_copy_as_with_its_bundle() {
        let placement = parse(
            "pg.psf.io: {path: pg.pem, owner: postgres, group: postgres, mode: '0600', \
             copies: [{path: /srv/pg, layout: split, group: app, mode: '0640'}]}\nmail.psf.io: {}\n",
        )
        .unwrap();
        let place = placement.bundle(&name("pg.psf.io"));
        assert_eq!(
            (place.path.to_str(), place.owner.as_str(), place.mode),
            (Some("/etc/psfca/pg.pem"), "postgres", 0o600)
        );
        let [copy] = placement.copies(&name("pg.psf.io")) else { panic!("one copy") };
        assert_eq!((copy.place.owner.as_str(), copy.place.group.as_str(), copy.place.mode), ("postgres", "app", 0o640));
        for usual in ["mail.psf.io", "other.psf.io"] {
            let place = placement.bundle(&name(usual));
            assert_eq!(place.path, Path::new("/etc/ssl/private").join(format!("{usual}.pem")));
            assert_eq!((place.group.as_str(), place.mode), ("ssl-cert", 0o640));
        }
    }

    #[test]
    fn a_name_has_one_probe_or_several() {
        let placement = parse(
            "pg.psf.io: {probe: 'postgres://127.0.0.1:5432'}\n\
             lb.psf.io: {probe: ['tls://127.0.0.1:443', 'smtp://localhost:25']}\n",
        );
        let placement = placement.unwrap();
        let probes = |text| placement.probes(&name(text)).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(probes("pg.psf.io"), ["postgres://127.0.0.1:5432"]);
        assert_eq!(probes("lb.psf.io"), ["tls://127.0.0.1:443", "smtp://localhost:25"]);
        assert!(probes("other.psf.io").is_empty());
        assert!(parse("a.psf.io: {probe: 'http://x:80'}\n").unwrap_err().contains("write it as tls://"));
    }

    #[test]
    fn a_password_file_lies_beside_the_settings_and_goes_with_a_keystore_alone() {
        let copy = |text: &str| {
            let placement = parse(&format!("a.psf.io: {{copies: [{{path: /srv/a.p12, {text}}}]}}\n"))?;
            Ok::<_, String>(placement.copies(&name("a.psf.io"))[0].layout.clone())
        };
        assert_eq!(copy("layout: pkcs12"), Ok(Layout::Pkcs12 { password_file: None }));
        let password_file = Some("/etc/psfca/a.password".into());
        assert_eq!(copy("layout: pkcs12, password_file: a.password"), Ok(Layout::Pkcs12 { password_file }));
        let error = copy("layout: split, password_file: a.password").unwrap_err();
        assert!(error.contains("`layout: pkcs12` alone"), "{error}");
        assert!(copy("layout: pkcs12, password: changeit").unwrap_err().contains("unknown field `password`"));
    }

    #[test]
    fn no_two_files_share_a_place() {
        for wrong in [
            "a.psf.io: {path: /srv/x.pem}\nb.psf.io: {path: /srv/x.pem}\n",
            "a.psf.io: {copies: [{path: /srv/x.pem, layout: combined}, {path: /srv/x.pem, layout: key-first}]}\n",
            "a.psf.io: {path: /etc/ssl/private/b.psf.io.pem}\n",
        ] {
            let error = parse(wrong).unwrap_err();
            assert!(error.contains("would go"), "{wrong}: {error}");
        }
        // Two names may change places.
        parse("a.psf.io: {path: /etc/ssl/private/b.psf.io.pem}\nb.psf.io: {path: /etc/ssl/private/a.psf.io.pem}\n")
            .unwrap();
        assert!(parse("a.psf.io: {mode: '0644'}\n").unwrap_err().contains("would not do for a private key"));
        assert!(parse("a.psf.io: {copies: [{path: /srv/x, layout: pem}]}\n").unwrap_err().contains("key-first"));
    }
}
