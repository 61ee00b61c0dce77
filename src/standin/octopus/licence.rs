//! The vendor's licence, as far as a server acts by it: how many nodes, and until when.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A licence (`OCTOPUS_SERVER_BASE64_LICENSE`: base64 of XML).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Licence {
    /// `<NodeLimit>`; without the element a single node. None for `Unlimited`.
    pub(super) node_limit: Option<usize>,
    /// `<ValidTo>`, a date such as `2027-01-31`; empty where there is none.
    pub(super) valid_to: String,
}

impl Licence {
    /// Reads one; `None` for what is no licence.
    pub(super) fn parse(base64: &str) -> Option<Self> {
        let compact: String = base64.split_whitespace().collect();
        let xml = String::from_utf8(STANDARD.decode(compact).ok()?).ok()?;
        xml.contains("<License").then(|| Self {
            node_limit: element(&xml, "NodeLimit").map_or(Some(1), |limit| limit.parse().ok()),
            valid_to: element(&xml, "ValidTo").unwrap_or_default().to_owned(),
        })
    }

    /// Whether it is over on a day, such as `2026-11-29`.
    pub(super) fn is_over(&self, today: &str) -> bool {
        self.valid_to.len() >= 10 && &self.valid_to[..10] < today
    }
}

fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, behind) = xml.split_once(&format!("<{name}>"))?;
    Some(behind.split_once("</")?.0.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_licence_tells_its_nodes_and_its_end() {
        let read = |xml: &str| Licence::parse(&STANDARD.encode(xml));
        let two = "<License Signature=\"x\"><NodeLimit>2</NodeLimit><ValidTo>2027-01-31T00:00:00</ValidTo></License>";
        let licence = read(two).unwrap();
        assert_eq!(licence.node_limit, Some(2));
        assert!(licence.is_over("2027-02-01") && !licence.is_over("2027-01-31"));
        assert_eq!(read("<License/>").unwrap().node_limit, Some(1));
        let unlimited = "<License><NodeLimit>Unlimited</NodeLimit></License>";
        assert_eq!(read(unlimited).unwrap().node_limit, None);
        assert!(read("no licence").is_none() && Licence::parse("?").is_none());
    }
}
