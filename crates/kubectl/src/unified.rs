//! Differences of two texts by lines, in the unified form with three lines around them.

use crate::limits;

const AROUND: usize = 3;

/// A line that both have, or one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edit<'a> {
    Same(&'a str),
    Gone(&'a str),
    New(&'a str),
}

/// The hunks that lead from one text to another; empty where they are the same.
pub fn hunks(before: &str, after: &str) -> String {
    let (before, after): (Vec<&str>, Vec<&str>) =
        (before.lines().collect(), after.lines().collect());
    let edits = edits(&before, &after);
    let changed: Vec<usize> = (0..edits.len())
        .filter(|i| !matches!(edits[*i], Edit::Same(_)))
        .collect();
    let mut out = String::new();
    let mut next = 0;
    while let Some(&first) = changed.get(next) {
        // Changes that are near each other are one hunk.
        let mut last = first;
        while let Some(&more) = changed.get(next).filter(|m| **m <= last + 2 * AROUND + 1) {
            last = more;
            next += 1;
        }
        let range = first.saturating_sub(AROUND)..(last + AROUND + 1).min(edits.len());
        out.push_str(&hunk(&edits, range));
    }
    out
}

fn hunk(edits: &[Edit<'_>], range: std::ops::Range<usize>) -> String {
    let old = |e: &&Edit<'_>| !matches!(e, Edit::New(_));
    let new = |e: &&Edit<'_>| !matches!(e, Edit::Gone(_));
    let span = |start: usize, length: usize| match length {
        0 => format!("{start},0"),
        1 => format!("{}", start + 1),
        n => format!("{},{n}", start + 1),
    };
    let (ahead, inside) = (&edits[..range.start], &edits[range]);
    let mut out = format!(
        "@@ -{} +{} @@\n",
        span(
            ahead.iter().filter(old).count(),
            inside.iter().filter(old).count()
        ),
        span(
            ahead.iter().filter(new).count(),
            inside.iter().filter(new).count()
        )
    );
    for edit in inside {
        let (mark, line) = match edit {
            Edit::Same(line) => (' ', line),
            Edit::Gone(line) => ('-', line),
            Edit::New(line) => ('+', line),
        };
        out.push_str(&format!("{mark}{line}\n"));
    }
    out
}

/// The shortest way from one to the other, by the longest lines in common.
fn edits<'a>(before: &[&'a str], after: &[&'a str]) -> Vec<Edit<'a>> {
    let head = before.iter().zip(after).take_while(|(a, b)| a == b).count();
    let (old, new) = (&before[head..], &after[head..]);
    let tail = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let (old, new) = (&old[..old.len() - tail], &new[..new.len() - tail]);
    let mut all: Vec<Edit<'a>> = before[..head].iter().map(|l| Edit::Same(l)).collect();
    if old.len().max(new.len()) > limits::DIFF_LINES {
        all.extend(old.iter().map(|l| Edit::Gone(l)));
        all.extend(new.iter().map(|l| Edit::New(l)));
    } else {
        all.extend(middle(old, new));
    }
    all.extend(before[before.len() - tail..].iter().map(|l| Edit::Same(l)));
    all
}

fn middle<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Edit<'a>> {
    // Lines in common of what is left from each place on.
    let width = new.len() + 1;
    let mut common = vec![0u32; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i * width + j] = match old[i] == new[j] {
                true => common[(i + 1) * width + j + 1] + 1,
                false => common[(i + 1) * width + j].max(common[i * width + j + 1]),
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut all = Vec::new();
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            all.push(Edit::Same(old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len()
            || (i < old.len() && common[(i + 1) * width + j] >= common[i * width + j + 1])
        {
            all.push(Edit::Gone(old[i]));
            i += 1;
        } else {
            all.push(Edit::New(new[j]));
            j += 1;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hunks_are_as_diff_writes_them() {
        let before = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\nl\n";
        let after = "a\nb\nc\nd\nE\nf\ng\nh\ni\nj\nk\nl\nm\n";
        assert_eq!(
            hunks(before, after),
            "@@ -2,7 +2,7 @@\n b\n c\n d\n-e\n+E\n f\n g\n h\n@@ -10,3 +10,4 @@\n j\n k\n l\n+m\n"
        );
        assert_eq!(hunks(before, before), "");
        assert_eq!(hunks("", "x\ny\n"), "@@ -0,0 +1,2 @@\n+x\n+y\n");
    }
}
