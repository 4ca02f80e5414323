//! What is embedded (the platform's charts and first files) is part of the source.

fn main() {
    for dir in [
        "gitops",
        "terraform",
        "toolchain/tools",
        "../helm",
        "../dashboards/rules",
    ] {
        println!("cargo:rerun-if-changed={dir}");
    }
}
