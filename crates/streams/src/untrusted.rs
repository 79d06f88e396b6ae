//! What a client sends: where the fuzz target enters (`tools/fuzz`).

use bytes::BytesMut;

use crate::spdy::{Frame, Inflater, frame};

/// Frames of a SPDY connection with their header blocks, up to the first error; gives how many there are.
pub fn spdy(data: &[u8]) -> usize {
    let (mut buffer, mut inflater) = (BytesMut::from(data), Inflater::default());
    let mut seen = 0;
    while let Ok(Some(frame)) = frame::decode(&mut buffer) {
        seen += 1;
        let (Frame::SynStream { block, .. }
        | Frame::SynReply { block, .. }
        | Frame::Headers { block, .. }) = frame
        else {
            continue;
        };
        if inflater.headers(&block).is_err() {
            break;
        }
    }
    seen
}
