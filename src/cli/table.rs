//! Columns for people: as wide as their widest cell, two spaces apart, left-aligned, without white
//! space at the ends of lines.

/// Aligns `rows`, which begin with the header; cells past `columns` are left out.
#[must_use]
pub fn align<const N: usize>(rows: &[[String; N]], columns: usize) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns.min(N)).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}
