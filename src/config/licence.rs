//! What an Octopus licence says, as far as this machine can know: whether it is whole, when it
//! holds, for how many nodes.
//!
//! A licence is a small XML document that is handed to the container in base64. It is searched for
//! a few elements, not parsed: entities are not expanded, and a document type is refused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use time::Date;
use time::macros::format_description;

/// The beginning and the end of every licence.
const BEGIN: &str = "<License";
const END: &str = "</License>";

/// What could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Licence {
    /// The licence in base64 on one line, whatever it was given as.
    pub encoded: String,
    /// How many nodes may be active; `None` is no limit. A licence that does not say allows one
    /// (octopus.com/docs, high availability).
    pub node_limit: Option<u32>,
    /// The first day on which it holds.
    pub valid_from: Option<Date>,
    /// The last day on which it holds.
    pub valid_to: Option<Date>,
}

/// Why a value is no licence that Octopus Server takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LicenceFault {
    /// The beginning of a licence, and not its end.
    #[error("it is the beginning of a licence, and its end is missing")]
    Truncated,
    /// As [`Self::Truncated`], at the width at which base64 is wrapped.
    #[error("it is the first line of a licence in base64, and the lines after it are missing")]
    FirstLine,
    /// Base64 of base64.
    #[error("it was encoded in base64 twice")]
    Twice,
    /// A document type, by which an XML document can grow without end.
    #[error("it has a document type, which no licence has")]
    DocumentType,
    /// Nothing of the kind.
    #[error("it is not an Octopus licence in base64")]
    Other,
}

impl LicenceFault {
    /// What to do about it.
    pub fn fix(self) -> &'static str {
        match self {
            Self::FirstLine => {
                "write it on one line (`base64 -w0`), or put all its lines into single quotes"
            }
            Self::Truncated | Self::DocumentType | Self::Other => {
                "copy it again, whole: the base64 of the XML, or the XML itself in single quotes"
            }
            Self::Twice => "decode it once",
        }
    }
}

/// Reads a licence: base64, wrapped or not, or the XML itself.
pub fn read(text: &str) -> Result<Licence, LicenceFault> {
    let xml = if is_xml(text) {
        text.trim_start_matches('\u{feff}').trim().to_owned()
    } else {
        decode(text)?
    };
    let body = without_comments(&xml);
    if body.contains("<!DOCTYPE") || body.contains("<!ENTITY") {
        return Err(LicenceFault::DocumentType);
    }
    if !body.contains(BEGIN) {
        return Err(LicenceFault::Other);
    }
    if !body.contains(END) {
        return Err(LicenceFault::Truncated);
    }
    let node_limit = match element(&body, "NodeLimit") {
        None => Some(1),
        Some(text) if text.eq_ignore_ascii_case("unlimited") => None,
        Some(text) => Some(text.parse().unwrap_or(1)),
    };
    Ok(Licence {
        encoded: STANDARD.encode(&xml),
        node_limit,
        valid_from: element(&body, "ValidFrom").and_then(date),
        valid_to: element(&body, "ValidTo").and_then(date),
    })
}

fn is_xml(text: &str) -> bool {
    text.trim_start_matches('\u{feff}')
        .trim_start()
        .starts_with('<')
}

fn decode(text: &str) -> Result<String, LicenceFault> {
    let compact: String = text.split_whitespace().collect();
    // Of a part that was cut off, whole groups of four can be read.
    let whole_groups = compact.get(..compact.len() / 4 * 4).unwrap_or_default();
    let decoded = STANDARD.decode(&compact).or_else(|_| {
        STANDARD
            .decode(whole_groups)
            .map_err(|_| LicenceFault::Other)
    })?;
    let xml = String::from_utf8_lossy(&decoded)
        .trim_start_matches('\u{feff}')
        .to_owned();
    if is_xml(&xml) && xml.contains(BEGIN) && !xml.contains(END) {
        // The widths of MIME and of PEM.
        let is_line = matches!(compact.len(), 76 | 64);
        return Err(if is_line {
            LicenceFault::FirstLine
        } else {
            LicenceFault::Truncated
        });
    }
    if !is_xml(&xml) && decode_once(&xml).is_some_and(|inner| is_xml(&inner)) {
        return Err(LicenceFault::Twice);
    }
    if whole_groups != compact {
        return Err(LicenceFault::Other);
    }
    Ok(xml)
}

fn decode_once(text: &str) -> Option<String> {
    let compact: String = text.split_whitespace().collect();
    String::from_utf8(STANDARD.decode(compact).ok()?).ok()
}

fn without_comments(xml: &str) -> String {
    let mut kept = String::with_capacity(xml.len());
    let mut rest = xml;
    while let Some((before, after)) = rest.split_once("<!--") {
        kept.push_str(before);
        rest = after.split_once("-->").map_or("", |(_, after)| after);
    }
    kept + rest
}

fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.trim())
}

/// `2026-12-31`, or the same with a time after it.
fn date(text: &str) -> Option<Date> {
    let day = text.get(..10)?;
    Date::parse(day, format_description!("[year]-[month]-[day]")).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::date;

    use super::*;

    const XML: &str = "<License Signature=\"x\">\n  <LicensedTo>Somebody</LicensedTo>\n  \
        <Version>2.0<!-- <NodeLimit>9</NodeLimit> --></Version>\n  <ValidFrom>2026-01-01</ValidFrom>\n  \
        <ValidTo>2026-12-31T00:00:00</ValidTo>\n  <NodeLimit>2</NodeLimit>\n</License>";

    fn of(xml: &str) -> Result<Licence, LicenceFault> {
        read(&STANDARD.encode(xml))
    }

    fn wrapped(width: usize) -> Vec<String> {
        let encoded = STANDARD.encode(XML).into_bytes();
        encoded
            .chunks(width)
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .collect()
    }

    #[test]
    fn a_missing_limit_is_one_node() {
        let limit = |xml: &str| of(xml).map(|licence| licence.node_limit);
        assert_eq!(limit("<License Signature=\"x\"></License>"), Ok(Some(1)));
        let unlimited = "<License><NodeLimit>Unlimited</NodeLimit></License>";
        assert_eq!(limit(unlimited), Ok(None));
        assert_eq!(limit(XML), Ok(Some(2)), "a comment says nothing");
    }

    #[test]
    fn base64_wrapped_base64_and_xml_are_the_same_licence() {
        let licence = of(XML).unwrap();
        assert_eq!(licence.valid_from, Some(date!(2026 - 01 - 01)));
        assert_eq!(licence.valid_to, Some(date!(2026 - 12 - 31)));
        assert_eq!(licence.encoded, STANDARD.encode(XML));
        assert_eq!(read(&wrapped(76).join("\n")), Ok(licence.clone()));
        assert_eq!(read(&wrapped(64).join("\r\n")), Ok(licence.clone()));
        assert_eq!(read(XML), Ok(licence.clone()));
        assert_eq!(read(&format!("\u{feff}{XML}\n")), Ok(licence));
    }

    #[test]
    fn what_is_no_whole_licence_says_why() {
        let encoded = STANDARD.encode(XML);
        for cut in [60, 101, 102, 103, encoded.len() - 8] {
            assert_eq!(read(&encoded[..cut]), Err(LicenceFault::Truncated), "{cut}");
        }
        for width in [76, 64] {
            assert_eq!(read(&wrapped(width)[0]), Err(LicenceFault::FirstLine));
        }
        assert_eq!(read(&XML[..90]), Err(LicenceFault::Truncated));
        assert_eq!(read(&STANDARD.encode(&encoded)), Err(LicenceFault::Twice));
        assert_eq!(of("<Other/>"), Err(LicenceFault::Other));
        assert_eq!(read("!!"), Err(LicenceFault::Other));
        assert_eq!(read(""), Err(LicenceFault::Other));
    }

    #[test]
    fn a_document_type_is_refused_before_anything_is_looked_at() {
        let bomb = format!("<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]>{XML}");
        assert_eq!(of(&bomb), Err(LicenceFault::DocumentType));
        assert_eq!(read(&bomb), Err(LicenceFault::DocumentType));
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in "\\PC{0,60}", xml in "[<>!/a-zA-Z -]{0,60}") {
            let _ = read(&text);
            let _ = of(&xml);
            let _ = read(&format!("<License>{xml}</License>"));
        }
    }
}
