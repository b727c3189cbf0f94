//! TEMPORARY until the declaration branch lands.
use crate::config::CaConfig;
use crate::declaration::{Declaration, Rules};
use crate::diagnostic::{Diagnostics, SourceFile};
use std::path::Path;
pub(super) fn config_or_complain(path: &Path) -> anyhow::Result<CaConfig> {
    let file = SourceFile::new(&path.display().to_string(), std::fs::read_to_string(path)?);
    CaConfig::parse(&file).map(|x| x.0).map_err(|d| anyhow::anyhow!(d.render(false)))
}
pub(super) type Signature = Vec<Option<std::time::SystemTime>>;
pub(super) fn signature(config: &CaConfig) -> Signature {
    config.declaration.iter().map(|p| std::fs::metadata(p).and_then(|m| m.modified()).ok()).collect()
}
pub(super) struct E(Diagnostics);
impl E {
    pub(super) fn diagnostics(&self) -> &Diagnostics {
        &self.0
    }
}
impl std::fmt::Display for E {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "bad")
    }
}
pub(super) fn read_declaration(config: &CaConfig) -> Result<(Declaration, Vec<SourceFile>, Diagnostics), E> {
    let files: Vec<_> = config
        .declaration
        .iter()
        .map(|p| SourceFile::new(&p.display().to_string(), std::fs::read_to_string(p).unwrap_or_default()))
        .collect();
    Declaration::parse(&files, &Rules::default()).map(|(d, r)| (d, files, r)).map_err(E)
}
