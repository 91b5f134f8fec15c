/** Import it first: what is under test does not log into the test's output. BATON_LOG=debug brings it back. */
process.env.BATON_LOG ??= "silent";
