//! The room that hashes, by itself: so much of the project is soon built for another processor.

#[path = "../../src/verity/mod.rs"]
pub mod verity;

#[cfg(test)]
mod tests {
    use super::verity::{BlockHasher, HashAlgorithm, Params};

    #[test]
    fn this_processor_has_the_instructions_that_kernels_are_for() {
        let names = |algorithm| -> Vec<&str> {
            let params = Params { algorithm, ..Params::default() };
            BlockHasher::variants(&params).into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names(HashAlgorithm::Sha256), ["ARMv8 SHA2", "one at a time"]);
        assert_eq!(names(HashAlgorithm::Sha512), ["ARMv8.2 SHA512", "one at a time"]);
    }
}
