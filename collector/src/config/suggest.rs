//! "Did you mean": the nearest known word to one that is not known. Pure.

use super::node::listed;

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

/// How many letters have to be put in, taken out or changed (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let change = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let known = ["interval", "timeout", "deep_interval", "url"];
        assert_eq!(nearest("intervall", known), Some("interval"));
        assert_eq!(nearest("deepInterval", known), Some("deep_interval"));
        assert_eq!(nearest("ulr", known), None);
        assert_eq!(nearest("URL", known), Some("url"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest(&"x".repeat(100_000), known), None);
    }

    #[test]
    fn distances_count_single_letters() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
