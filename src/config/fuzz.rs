//! The fuzz target `config`: any text as netd.toml.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "never part of the daemon")]

use super::{Config, file};

/// One run of the fuzzer. Panics if a promise is broken.
pub fn attack(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match file::parse("netd.toml", text) {
        Ok(config) => accepted(&config),
        Err(error) => {
            let error = error.to_string();
            assert!(!error.contains(char::is_control), "one line: {error:?}");
            let why = error.strip_prefix("read the configuration netd.toml: ").expect("it names the file");
            assert!(!why.is_empty());
            if let Some(line) = why.strip_prefix("line ").and_then(|why| why.split([',', ':']).next()) {
                let line: usize = line.parse().expect("the number of a line");
                // An error at the end of the text is on the line that would come next.
                assert!((1..=text.split('\n').count()).contains(&line), "{error}");
            }
        }
    }
}

/// `netd config show` prints what has the same meaning, as TOML and as JSON; every setting is within its bounds.
fn accepted(config: &Config) {
    let shown = toml::to_string(config).expect("every configuration can be shown");
    assert_eq!(file::parse("shown", &shown).as_ref(), Ok(config), "{shown}");
    serde_json::to_string(config).expect("every configuration can be shown as JSON");
    for path in [&config.socket, &config.state_dir, &config.runtime_dir] {
        assert!(path.is_absolute(), "{path:?}");
    }
    assert!(config.dns.port > 0);
    for (index, pool) in config.pools.ipv4.iter().enumerate() {
        assert!(pool.base.prefix() <= pool.size && pool.size <= 30, "{pool:?}");
        assert!(config.pools.ipv4[..index].iter().all(|other| !other.base.overlaps(pool.base)), "{pool:?}");
    }
    assert!(config.dns.split.values().all(|servers| !servers.is_empty()));
}

#[cfg(test)]
mod tests {
    #[test]
    fn configurations_keep_their_promises() {
        netd_testing::inputs::attack("config", super::attack);
    }
}
