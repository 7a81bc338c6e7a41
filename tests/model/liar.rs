//! A gateway that lies: a real one, with somebody in between who changes calls and replies.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use crate::support::{receive_record, send_record};

/// Bytes before the results of an accepted reply, and before the credential of a call.
pub const HEAD: usize = 24;

/// Which procedure a call or reply is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Of {
    pub program: u32,
    pub procedure: u32,
}

pub const GETXATTR: Of = Of { program: 0x2000_8276, procedure: 1 };
pub const LISTXATTRS: Of = Of { program: 0x2000_8276, procedure: 2 };
pub const GETPROOF: Of = Of { program: 0x2000_8276, procedure: 3 };
pub const LOOKUP: Of = Of { program: 100_003, procedure: 3 };
pub const READ: Of = Of { program: 100_003, procedure: 6 };
pub const MNT: Of = Of { program: 100_005, procedure: 1 };

/// Changes the records of calls and replies, each without its mark.
pub type Lie = dyn Fn(Of, Record<'_>) + Send + Sync;

/// What is changed.
pub enum Record<'a> {
    Call(&'a mut Vec<u8>),
    Reply(&'a mut Vec<u8>),
}

/// Serves what `gateway` serves, changed by `lie`, for as long as the test runs.
pub fn liar(gateway: SocketAddr, lie: impl Fn(Of, Record<'_>) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let lie: Arc<Lie> = Arc::new(lie);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), lie) = (client, lie.clone()) else { return };
            std::thread::spawn(move || between(client, gateway, &*lie));
        }
    });
    address
}

/// One that changes the replies of one procedure alone.
pub fn liar_about(
    gateway: SocketAddr,
    what: Of,
    lie: impl Fn(&mut Vec<u8>) + Send + Sync + 'static,
) -> SocketAddr {
    liar(gateway, move |of, record| match record {
        Record::Reply(reply) if of == what => lie(reply),
        Record::Reply(_) | Record::Call(_) => {}
    })
}

fn between(mut client: TcpStream, gateway: SocketAddr, lie: &Lie) {
    let mut gateway = TcpStream::connect(gateway).unwrap();
    while let Some(mut call) = receive_record(&mut client) {
        let word = |at: usize| u32::from_be_bytes(call[at..at + 4].try_into().unwrap());
        let of = Of { program: word(12), procedure: word(20) };
        lie(of, Record::Call(&mut call));
        send_record(&mut gateway, &call);
        let Some(mut reply) = receive_record(&mut gateway) else { return };
        lie(of, Record::Reply(&mut reply));
        let mark = 0x8000_0000 | u32::try_from(reply.len()).unwrap();
        let sent = [&mark.to_be_bytes()[..], &reply].concat();
        // The client may have seen enough.
        if std::io::Write::write_all(&mut client, &sent).is_err() {
            return;
        }
    }
}
