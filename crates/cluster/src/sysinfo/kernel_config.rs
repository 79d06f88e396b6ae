//! The kernel's build configuration, where the host tells it.

use std::collections::HashMap;
use std::io::Read;

use crate::limits;

/// Options by name, without `CONFIG_`.
pub struct KernelConfig(Option<HashMap<String, String>>);

// === KernelConfig ===

impl KernelConfig {
    /// From the first place that has it.
    pub fn of_host(release: &str) -> Self {
        if let Ok(file) = std::fs::File::open("/proc/config.gz") {
            let mut text = String::new();
            let plain = flate2::read::GzDecoder::new(file).take(limits::KERNEL_CONFIG_BYTES);
            if { plain }.read_to_string(&mut text).is_ok() {
                return Self::parse(&text);
            }
        }
        let places = [
            format!("/boot/config-{release}"),
            format!("/usr/src/linux-{release}/.config"),
            "/usr/src/linux/.config".into(),
            format!("/usr/lib/modules/{release}/config"),
            format!("/usr/lib/ostree-boot/config-{release}"),
            format!("/usr/lib/kernel/config-{release}"),
            format!("/usr/src/linux-headers-{release}/.config"),
            format!("/lib/modules/{release}/build/.config"),
        ];
        let text = places.iter().find_map(|p| std::fs::read_to_string(p).ok());
        text.map_or(Self(None), |t| Self::parse(&t))
    }

    fn parse(text: &str) -> Self {
        let options = text
            .lines()
            .filter_map(|l| l.strip_prefix("CONFIG_")?.split_once('='))
            .map(|(k, v)| (k.to_string(), v.to_string()));
        Self(Some(options.collect()))
    }

    /// Whether the host tells its configuration at all.
    pub fn is_known(&self) -> bool {
        self.0.is_some()
    }

    /// `built-in`, `module`, `left out` or `unknown`.
    pub fn state(&self, option: &str) -> &'static str {
        match &self.0 {
            None => "unknown",
            Some(options) => match options.get(option).map(String::as_str) {
                Some("y") => "built-in",
                Some("m") => "module",
                _ => "left out",
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::KernelConfig;

    #[test]
    fn options_are_built_in_modules_or_left_out() {
        let text = "CONFIG_NET=y\n# CONFIG_WIREGUARD is not set\nCONFIG_VXLAN=m\nCONFIG_HZ=250\n";
        let config = KernelConfig::parse(text);
        for (option, state) in [
            ("NET", "built-in"),
            ("VXLAN", "module"),
            ("WIREGUARD", "left out"),
        ] {
            assert_eq!(config.state(option), state);
        }
        assert_eq!(KernelConfig(None).state("NET"), "unknown");
    }
}
