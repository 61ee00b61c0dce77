//! What an Octopus licence allows, read leniently: this only ever warns.

use base64::Engine as _;

/// What could be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Licence {
    /// How many nodes may be active; `None` is no limit. A licence that does not say allows one
    /// (octopus.com/docs, high availability).
    pub node_limit: Option<u32>,
    /// The day it ends, as the licence writes it.
    pub valid_to: Option<String>,
}

/// Reads a licence in base64; `None` when it is none.
pub fn read(base64: &str) -> Option<Licence> {
    let compact: String = base64.split_whitespace().collect();
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(compact)
        .ok()?;
    let xml = String::from_utf8_lossy(&bytes);
    if !xml.contains("<License") {
        return None;
    }
    let node_limit = match element(&xml, "NodeLimit") {
        None => Some(1),
        Some(text) if text.eq_ignore_ascii_case("unlimited") => None,
        Some(text) => Some(text.parse().unwrap_or(1)),
    };
    Some(Licence {
        node_limit,
        valid_to: element(&xml, "ValidTo").map(str::to_owned),
    })
}

fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(xml: &str) -> Option<Licence> {
        read(&base64::engine::general_purpose::STANDARD.encode(xml))
    }

    #[test]
    fn a_missing_limit_is_one_node() {
        assert_eq!(
            of("<License Signature=\"x\"></License>").and_then(|licence| licence.node_limit),
            Some(1)
        );
        assert_eq!(
            of("<License><NodeLimit>2</NodeLimit></License>")
                .and_then(|licence| licence.node_limit),
            Some(2)
        );
        assert_eq!(
            of("<License><NodeLimit>Unlimited</NodeLimit></License>")
                .and_then(|licence| licence.node_limit),
            None
        );
        assert_eq!(of("<Other/>"), None);
        assert_eq!(read("!!"), None);
    }
}
