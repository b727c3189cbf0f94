//! One entry of `roles`.

use super::DraftRole;
use crate::diagnostic::Diagnostic;
use crate::name::RoleName;
use crate::pattern::{Pattern, ProgramBudget};
use crate::yaml::reader::Reader;
use crate::yaml::{Entry, Node, Value};

/// Reads `role: "pattern"`, or `role:` with `pattern`, `purpose`, `contact` and `category` below it.
pub(super) fn read(reader: &mut Reader<'_>, entry: &Entry, budget: &mut ProgramBudget) -> Option<DraftRole> {
    let name = match RoleName::parse(&entry.key) {
        Ok(name) => Some(name),
        Err(error) => {
            reader.error(&entry.key_span, format!("{:?} is no role name: {error}", entry.key), "choose another name");
            None
        }
    };
    let pattern = pattern_node(reader, entry).and_then(|node| read_pattern(reader, node, budget));
    Some(DraftRole { file: reader.file.clone(), span: entry.key_span.clone(), name: name?, pattern })
}

fn pattern_node<'n>(reader: &mut Reader<'_>, entry: &'n Entry) -> Option<&'n Node> {
    const HELP: &str = "write which hosts have the role, such as \"pg*.iad1.psf.io\"";
    let found = if matches!(entry.value.value, Value::Mapping(_)) {
        reader.fields(&entry.value, "a role", &["pattern", "purpose", "contact", "category"]).get("pattern")
    } else {
        (!entry.value.is_null()).then_some(&entry.value)
    };
    if found.is_none() {
        reader.error(&entry.key_span, format!("the role {:?} has no pattern", entry.key), HELP);
    }
    found
}

fn read_pattern(reader: &mut Reader<'_>, node: &Node, budget: &mut ProgramBudget) -> Option<Pattern> {
    // That was reported once; to compile the rest as well would only cost time.
    if budget.is_exceeded() {
        return None;
    }
    let text = match &node.value {
        Value::Scalar { text, .. } => text,
        _ => return reader.text(node, "a pattern").and(None),
    };
    match Pattern::parse_within(text, budget) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let span = node.locate(reader.file, error.range.clone());
            let help = error.reason.help();
            reader.out.push(Diagnostic::error(reader.file, span, format!("bad pattern: {error}")).help(help));
            None
        }
    }
}
