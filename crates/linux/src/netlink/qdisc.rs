//! Limits on what leaves by a link: the token bucket filter. tc-tbf(8),
//! kernel include/uapi/linux/pkt_sched.h.

use super::message::Message;
use super::{Error, NLM_F_CREATE, NLM_F_REPLACE, Socket};

const RTM_NEWQDISC: u16 = 36;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
const TC_H_ROOT: u32 = u32::MAX;
/// Handle 1:0.
const HANDLE: u32 = 0x1_0000;
/// With a link layer given, the kernel wants no rate table.
const TC_LINKLAYER_ETHERNET: u8 = 1;
const TCMSG_BYTES: usize = 20;
const TBF_QOPT_BYTES: usize = 36;

// === Socket: qdiscs ===

impl Socket {
    /// Lets at most `rate` bytes a second leave by a link, after bursts of `burst` bytes; up to `queue`
    /// bytes wait, more are dropped. Replaces the link's root qdisc.
    pub fn set_rate_limit(
        &mut self,
        link: u32,
        rate: u64,
        burst: u32,
        queue: u32,
    ) -> Result<(), Error> {
        let mut fixed = [0; TCMSG_BYTES];
        fixed[4..8].copy_from_slice(&link.to_ne_bytes());
        fixed[8..12].copy_from_slice(&HANDLE.to_ne_bytes());
        fixed[12..16].copy_from_slice(&TC_H_ROOT.to_ne_bytes());
        let mut options = [0; TBF_QOPT_BYTES];
        options[1] = TC_LINKLAYER_ETHERNET;
        // Rates that 32 bits do not hold are given in full by the attribute below.
        let low = u32::try_from(rate).unwrap_or(u32::MAX);
        options[8..12].copy_from_slice(&low.to_ne_bytes());
        options[24..28].copy_from_slice(&queue.to_ne_bytes());
        let mut m = Message::new(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, &fixed);
        m.attr_str(TCA_KIND, "tbf");
        m.nest(TCA_OPTIONS, |m| {
            m.attr(TCA_TBF_PARMS, &options);
            m.attr_u32(TCA_TBF_BURST, burst);
            if rate > u64::from(u32::MAX) {
                m.attr(TCA_TBF_RATE64, &rate.to_ne_bytes());
            }
        });
        self.request(|| format!("limit link {link} to {rate} bytes/s"), m)
    }
}
