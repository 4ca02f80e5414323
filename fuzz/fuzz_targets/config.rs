//! A config file of any bytes: never a panic, every problem with its place, and no problem shows
//! what came from the environment. (A good config may: whoever writes `data_dir: ${NAME}` has that
//! value in a setting that is no secret.)
#![no_main]

use comind_collector::config;
use libfuzzer_sys::fuzz_target;

/// What stands in the environment, and must not come out.
const SECRET: &str = "correct-horse-battery-staple";

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    if text.contains(SECRET) {
        return;
    }
    let env = |name: &str| (name == "SECRET").then(|| SECRET.to_owned());
    let result = config::parse(&text, "fuzz.yaml", &env);
    if let Err(error) = result {
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(SECRET), "{}", shown.replace(SECRET, "<the secret>"));
        assert!(!error.problems.is_empty());
        assert!(error.problems.iter().all(|problem| problem.line > 0 && problem.column > 0));
    }
});
