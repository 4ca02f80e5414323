//! "Did you mean": the nearest known word to one that is not known. Pure.

use super::node::listed;

/// A word of the config in a message, cut to a length that can be read.
pub(super) fn shown(word: &str) -> String {
    const MOST: usize = 60;
    match word.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &word[..end]),
        None => word.to_owned(),
    }
}

/// What to add to an error about an unknown word: the nearest one, and all that are allowed.
pub(super) fn help<'a>(
    unknown: &str,
    allowed: impl IntoIterator<Item = &'a str> + Clone,
) -> String {
    let all = listed(allowed.clone());
    match nearest(unknown, allowed) {
        Some(word) => format!("did you mean `{word}`? allowed: {all}"),
        None => format!("allowed: {all}"),
    }
}

/// The allowed word with the fewest changed letters, if few enough to be a slip.
fn nearest<'a>(unknown: &str, allowed: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Longer words are no slip of a known one, and comparing them would cost.
    const LONGEST: usize = 40;
    if unknown.len() > LONGEST {
        return None;
    }
    let unknown = simplified(unknown);
    let slips = (unknown.chars().count() / 3).max(1);
    allowed
        .into_iter()
        .map(|word| (distance(&unknown, &simplified(word)), word))
        .min()
        .filter(|(distance, _)| *distance <= slips)
        .map(|(_, word)| word)
}

/// `deepInterval`, `deep-interval` and `Deep_Interval` are the same slip.
fn simplified(word: &str) -> String {
    let kept = word.chars().filter(|c| !matches!(c, '_' | '-' | ' '));
    kept.flat_map(char::to_lowercase).collect()
}

/// How many letters have to be put in, taken out, changed, or swapped with their neighbour
/// (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = changed.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let known = ["interval", "timeout", "deep_interval", "url"];
        assert_eq!(nearest("intervall", known), Some("interval"));
        assert_eq!(nearest("deepInterval", known), Some("deep_interval"));
        assert_eq!(nearest("ulr", known), Some("url"));
        assert_eq!(nearest("URL", known), Some("url"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest(&"x".repeat(100_000), known), None);
    }

    #[test]
    fn distances_count_single_letters() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
        assert_eq!(distance("redsi", "redis"), 1);
    }
}
