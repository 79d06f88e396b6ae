//! Lists of completion indexes as texts: `1,3-5,7`. Upstream: pkg/apis/batch/validation.

/// How many indexes a list names, or what is wrong with it.
pub fn count(list: &str, completions: i64) -> Result<i64, String> {
    let mut last: Option<i64> = None;
    let mut total = 0;
    if list.is_empty() {
        return Ok(0);
    }
    for text in list.split(',') {
        let (first, end) = interval(text, completions)?;
        if let Some(last) = last.filter(|last| *last >= first) {
            return Err(format!(
                "non-increasing order, previous: {last}, current: {first}"
            ));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

/// The first index that two lists share. Intervals that do not parse are left out.
pub fn overlap(completed: &str, failed: &str, completions: i64) -> Option<i64> {
    let parse = |list: &str| -> Vec<(i64, i64)> {
        list.split(',')
            .filter_map(|text| interval(text, completions).ok())
            .collect()
    };
    let (completed, failed) = (parse(completed), parse(failed));
    let (mut c, mut f) = (0, 0);
    while let (Some(one), Some(other)) = (completed.get(c), failed.get(f)) {
        if one.0 <= other.1 && other.0 <= one.1 {
            return Some(one.0.max(other.0));
        }
        if one.0 <= other.0 {
            c += 1;
        } else {
            f += 1;
        }
    }
    None
}

fn interval(text: &str, completions: i64) -> Result<(i64, i64), String> {
    let parts: Vec<&str> = text.split('-').collect();
    if parts.len() > 2 {
        return Err(format!(
            "the fragment \"{text}\" violates the requirement that an index interval can have at most two parts separated by '-'"
        ));
    }
    let number = |text: &str| -> Result<i64, String> {
        let n: i64 = text
            .parse()
            .map_err(|_| format!("cannot convert string to integer for index: \"{text}\""))?;
        if n >= completions {
            return Err(format!("too large index: \"{text}\""));
        }
        Ok(n)
    };
    let first = number(parts[0])?;
    let Some(end) = parts.get(1) else {
        return Ok((first, first));
    };
    let end = number(end)?;
    if first >= end {
        return Err(format!(
            "non-increasing order, previous: {first}, current: {end}"
        ));
    }
    Ok((first, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_counted_and_judged() {
        for (list, expected) in [
            ("", Ok(0)),
            ("0,2-4,9", Ok(5)),
            ("3,2", Err("non-increasing order, previous: 3, current: 2")),
            ("4-4", Err("non-increasing order, previous: 4, current: 4")),
            ("10", Err("too large index: \"10\"")),
            (
                "x",
                Err("cannot convert string to integer for index: \"x\""),
            ),
            (
                "1-2-3",
                Err(
                    "the fragment \"1-2-3\" violates the requirement that an index interval can have at most two parts separated by '-'",
                ),
            ),
        ] {
            assert_eq!(count(list, 10), expected.map_err(String::from), "{list}");
        }
        assert_eq!(overlap("0,2-4", "5,7", 10), None);
        assert_eq!(overlap("0,2-4", "1,3-7", 10), Some(3));
    }
}
