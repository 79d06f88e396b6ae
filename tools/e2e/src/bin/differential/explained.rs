//! Differences that are meant: each with its reason. Whoever mends one removes its line.

use regex::Regex;
use serde_json::Value;

use crate::step::Ask;
use crate::target::Answer;

/// A difference that is meant.
pub struct Explained {
    pub reason: &'static str,
    /// Whether the servers' objects differ from here on, so that the sequence ends.
    pub ends: bool,
    fits: fn(Option<&Ask>, &Answer, &Answer) -> bool,
}

static EXPLAINED: &[Explained] = &[
    Explained {
        reason: "rules hold times in UTC; upstream's show them in the zone in which they were written",
        ends: false,
        fits: |_, mine, theirs| {
            let zoned = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?[+-]\d\d:\d\d";
            let zoned = Regex::new(zoned).ok();
            let utc = |text: &str| {
                let all = zoned.as_ref().map(|z| z.replace_all(text, "TIME"));
                all.unwrap_or_default().into_owned()
            };
            let theirs = theirs.body["details"]["causes"].to_string();
            let told = mine.body["details"]["causes"].to_string();
            told.contains("TIME") && utc(&theirs) == told
        },
    },
    Explained {
        reason: "what nobody serves is a plain 404 in a cluster; the reference ends its chain with a Status",
        ends: false,
        fits: |_, mine, theirs| {
            mine.code == 404 && theirs.code == 404 && mine.body == "404 page not found\n"
        },
    },
    Explained {
        reason: "only the reference leaves out the storage version of CRDs from discovery",
        ends: false,
        fits: |ask, mine, theirs| {
            let path = ask.is_some_and(|a| a.path == "/apis/apiextensions.k8s.io/v1");
            path && mine.code == theirs.code
        },
    },
    Explained {
        reason: "OpenAPI of an unknown group version is the aggregator's 404 in a cluster, whatever is accepted; the reference answers 200 with nothing, or 406",
        ends: false,
        fits: |ask, mine, theirs| {
            let path = ask.is_some_and(|a| a.path.starts_with("/openapi/v3/"));
            path && mine.code == 404 && [200, 406].contains(&theirs.code) && theirs.body == ""
        },
    },
    Explained {
        reason: "upstream panics over a protobuf body for a custom resource and closes the connection; here it is 415",
        ends: false,
        fits: |ask, mine, theirs| {
            let named = |(k, v): &(String, String)| k == "content-type" && v.contains("protobuf");
            let protobuf = ask.is_some_and(|a| a.headers.iter().any(named));
            protobuf && mine.code == 415 && theirs.code == 0
        },
    },
    Explained {
        reason: "a wrong type for a text is told by Go's name of the text's type, which the schema table does not have",
        ends: false,
        fits: |_, mine, theirs| {
            let cut = |a: &Answer| {
                message(a)
                    .rsplit_once(" of type ")
                    .map(|(head, of)| (head.to_string(), of.to_string()))
            };
            match (cut(mine), cut(theirs)) {
                (Some((a, string)), Some((b, named))) => {
                    a == b && string == "string" && named.starts_with("v1.")
                }
                _ => false,
            }
        },
    },
    Explained {
        reason: "a patched Scale that does not decode is shown without its managed fields",
        ends: false,
        fits: |ask, mine, theirs| {
            let scale = ask.is_some_and(|a| a.path.contains("/scale"));
            let why = |a: &Answer| {
                message(a)
                    .rsplit_once("}\": ")
                    .map(|(_, why)| why.to_string())
            };
            scale && mine.code == theirs.code && why(mine).is_some() && why(mine) == why(theirs)
        },
    },
    Explained {
        reason: "upstream cannot apply to the scale of a custom resource; here it works as for built-in kinds",
        ends: true,
        fits: |_, _, theirs| {
            message(theirs).contains("failed to create manager for existing fields")
        },
    },
    Explained {
        reason: "upstream looks at an applied map's fields in any order, up to the first that is not declared",
        ends: false,
        fits: |ask, mine, theirs| {
            let undeclared = |a: &Answer| message(a).contains("field not declared in schema");
            let applies = ask.is_some_and(|a| a.method == "PATCH");
            applies && mine.code == theirs.code && undeclared(mine) && undeclared(theirs)
        },
    },
    Explained {
        reason: "upstream reads an object's embedded ones in any order, up to the first whose metadata is none",
        ends: false,
        fits: |_, mine, theirs| {
            let path = |a: &Answer| {
                let (_, told) = message(a).split_once(" cannot be handled as a ")?;
                let (at, why) = told.split_once(".metadata: Invalid value: ")?;
                why.contains("json: cannot unmarshal")
                    .then(|| at.to_string())
            };
            let paths = path(mine).zip(path(theirs));
            mine.code == theirs.code && paths.is_some_and(|(a, b)| a != b)
        },
    },
    Explained {
        reason: "upstream panics over selectable fields of a schema that is not structural and closes the connection; here it is 422",
        ends: false,
        fits: |ask, mine, theirs| {
            let defines = ask.is_some_and(|a| a.path.contains("/customresourcedefinitions"));
            let selects = |c: &Value| {
                c["field"]
                    .as_str()
                    .is_some_and(|f| f.contains("selectableFields"))
            };
            let causes = mine.body["details"]["causes"].as_array();
            let refused = mine.code == 422 && causes.into_iter().flatten().any(selects);
            defines && refused && theirs.code == 0
        },
    },
    Explained {
        reason: "upstream's rules fail over a whole number that is written as a float in an integer's place; here they see the number",
        ends: true,
        fits: |_, _, theirs| message(theirs).contains("invalid data, expected int, got float64"),
    },
    Explained {
        reason: "what a syntax error of a rule says was expected is reckoned by another ANTLR",
        ends: false,
        fits: |_, mine, theirs| {
            let cut = |a: &Answer| {
                let text = message(a);
                let lines = text
                    .lines()
                    .map(|l| l.split(" expecting ").next().unwrap_or(l));
                lines.collect::<Vec<_>>().join("\n")
            };
            message(theirs).contains("Syntax error: ") && cut(mine) == cut(theirs)
        },
    },
    Explained {
        reason: "upstream names the type of a rule's `self` by the nanosecond of its clock; here it is an object",
        ends: false,
        fits: |_, mine, theirs| {
            let named = Regex::new(r"selfType\d+").ok();
            let text = theirs.body.to_string();
            let told = named.map(|n| n.replace_all(&text, "object").into_owned());
            text.contains("selfType") && told == Some(mine.body.to_string())
        },
    },
    Explained {
        reason: "an empty map of properties or list of values is none where a refused definition is shown whole",
        ends: false,
        fits: |ask, mine, theirs| {
            let defines = ask.is_some_and(|a| a.path.contains("/customresourcedefinitions"));
            let full = |a: &Answer| {
                let text = a.body.to_string();
                let text = text.replace(r#"\"Properties\":{}"#, r#"\"Properties\":null"#);
                text.replace(r#"\"Enum\":[]"#, r#"\"Enum\":null"#)
            };
            defines && full(mine) == full(theirs)
        },
    },
    Explained {
        reason: "a bound too large for 64 bits is what the machine's instruction makes of it upstream; here it bounds nothing",
        ends: true,
        fits: |_, mine, theirs| {
            let overflown = "should be less than or equal to -9223372036854775808";
            let without = |a: &Answer| {
                let causes = a.body["details"]["causes"].as_array();
                let text = |c: &&Value| !c["message"].as_str().unwrap_or("").contains(overflown);
                let all = causes.into_iter().flatten().filter(text);
                all.cloned().collect::<Vec<_>>()
            };
            message(theirs).contains(overflown) && without(mine) == without(theirs)
        },
    },
];

/// Why two answers may differ.
pub fn reason(ask: Option<&Ask>, mine: &Answer, theirs: &Answer) -> Option<&'static Explained> {
    EXPLAINED.iter().find(|e| (e.fits)(ask, mine, theirs))
}

fn message(a: &Answer) -> &str {
    a.body["message"].as_str().unwrap_or("")
}
