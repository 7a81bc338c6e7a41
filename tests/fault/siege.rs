//! A gateway under attack, with an honest client that goes on reading all the while.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nfs_verity::wire::{Reader, Writer};
use rustix::net::{AddressFamily, SocketType, sockopt};

use super::support::{COMMAND, Client, NFS, Served, Site, content, eventually, receive_record, send_record};

/// What the gateway may have in memory, whatever clients do.
pub const MEMORY_MAX: u64 = 256 << 20;
/// The file that the honest client reads, and its bytes.
pub const FILE: &str = "dir/honest";
/// The most bytes of one READ.
pub const READ_MAX: u32 = 1 << 20;
const NFS3ERR_JUKEBOX: u32 = 10008;
/// Bytes of a reply before the results: xid, REPLY, accepted, verifier, executed.
pub const HEADER: usize = 24;

pub fn honest_content() -> Vec<u8> {
    content(7, 150_001)
}

/// How the honest client takes a lost connection and "try again later".
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// As what must not happen.
    None,
    /// As a kernel does: it comes again.
    Comes,
}

pub struct Siege {
    pub site: Site,
    pub gateway: Served,
    rounds: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    honest: Option<JoinHandle<()>>,
}

impl Siege {
    /// A site with [`FILE`] and what `furnish` puts there, signed and served.
    pub fn begin(furnish: impl FnOnce(&Site)) -> Self {
        Self::around(Command::new(COMMAND), Patience::None, furnish)
    }

    /// The same for a gateway that may open no more than `descriptors`. The honest client connects
    /// again and tries again where it is told to.
    pub fn begin_poor(descriptors: u32, furnish: impl FnOnce(&Site)) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {descriptors}; exec \"$0\" \"$@\""), COMMAND]);
        Self::around(shell, Patience::Comes, furnish)
    }

    fn around(mut command: Command, patience: Patience, furnish: impl FnOnce(&Site)) -> Self {
        let site = Site::new();
        site.put(FILE, &honest_content());
        furnish(&site);
        site.sign(&[]);
        let gateway = site.serve_as(&mut command, &["--cache", "32MiB"]);
        let (rounds, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, ended, address) = (rounds.clone(), over.clone(), gateway.nfs);
        let file = Client::connect(address).find(FILE).unwrap();
        let honest = std::thread::spawn(move || {
            let wanted = honest_content();
            let mut client = Client::connect(address);
            while !ended.load(SeqCst) {
                read_whole(&mut client, address, &file, &wanted, patience);
                counted.fetch_add(1, SeqCst);
            }
        });
        let mut siege = Self { site, gateway, rounds, over, honest: Some(honest) };
        siege.others_are_served();
        siege
    }

    pub fn address(&self) -> SocketAddr {
        self.gateway.nfs
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address())
    }

    /// Waits until the honest client has read its file a few times more.
    pub fn others_are_served(&mut self) {
        let before = self.rounds.load(SeqCst);
        eventually("others are served", || {
            if self.honest.as_ref().is_some_and(JoinHandle::is_finished) {
                self.honest.take().unwrap().join().unwrap();
            }
            self.rounds.load(SeqCst) >= before + 5
        });
        self.memory_is_bounded();
    }

    /// The same, over and over for as long as an attack may take to unfold.
    pub fn others_are_served_throughout(&mut self) {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(2) {
            self.others_are_served();
        }
    }

    pub fn memory_is_bounded(&self) {
        let most = self.gateway.most_resident();
        assert!(most < MEMORY_MAX, "{} MiB resident", most >> 20);
    }

    /// What holds after every attack.
    pub fn end(mut self) {
        self.others_are_served();
        self.over.store(true, SeqCst);
        self.honest.take().unwrap().join().unwrap();
        assert_eq!(self.gateway.stop(), Some(0), "it ends as it should");
    }
}

impl Drop for Siege {
    fn drop(&mut self) {
        self.over.store(true, SeqCst);
    }
}

fn read_whole(client: &mut Client, address: SocketAddr, file: &[u8], wanted: &[u8], patience: Patience) {
    let mut at = 0;
    while at < wanted.len() {
        let call = client.encode(NFS, 6, |w| _ = w.opaque(file).u64(at as u64).u32(50_000));
        let Some(reply) = exchange(&mut client.stream, &call) else {
            assert!(patience == Patience::Comes, "the connection was lost");
            *client = Client::connect(address);
            continue;
        };
        assert_eq!(reply[..4], call[..4], "another call's reply");
        let mut reader = Reader::new(&reply[HEADER..]);
        match reader.u32().unwrap() {
            0 => {}
            NFS3ERR_JUKEBOX if patience == Patience::Comes => {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
            status => panic!("READ gave status {status}"),
        }
        assert!(reader.bool().unwrap(), "no attributes");
        reader.fixed(84).unwrap();
        let (count, eof) = (reader.u32().unwrap() as usize, reader.bool().unwrap());
        let data = reader.opaque(READ_MAX).unwrap();
        assert!(count == data.len() && data == &wanted[at..at + count], "wrong bytes at {at}");
        at += count;
        assert_eq!(eof, at == wanted.len());
    }
}

fn exchange(stream: &mut TcpStream, call: &[u8]) -> Option<Vec<u8>> {
    stream.write_all(&record(call)).ok()?;
    receive_record(stream)
}

/// `message` as a record of one fragment.
pub fn record(message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    send_record(&mut bytes, message);
    bytes
}

/// The record of a call with AUTH_SYS.
pub fn call(xid: u32, (program, version, procedure): (u32, u32, u32), arguments: &[u8]) -> Vec<u8> {
    let mut w = Writer::default();
    w.u32(xid).u32(0).u32(2).u32(program).u32(version).u32(procedure);
    w.u32(1).u32(24).u32(0).opaque(b"test").u32(1000).u32(1000).u32(0).u64(0);
    let mut message = w.finish().concat();
    message.extend_from_slice(arguments);
    record(&message)
}

/// The record of a READ.
pub fn read(xid: u32, file: &[u8], offset: u64, count: u32) -> Vec<u8> {
    call(xid, (NFS, 3, 6), &arguments(|w| _ = w.opaque(file).u64(offset).u32(count)))
}

pub fn arguments(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut w = Writer::default();
    write(&mut w);
    w.finish().concat()
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A connection on which the kernel keeps few replies for us.
pub fn connect_narrow(address: SocketAddr) -> TcpStream {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    sockopt::set_socket_recv_buffer_size(&socket, 16 << 10).unwrap();
    rustix::net::connect(&socket, &address).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// The next reply's xid and, when it is accepted, how the call went and its results.
pub fn answer(stream: &mut TcpStream) -> (u32, Option<(u32, Vec<u8>)>) {
    let reply = receive_record(stream).expect("an answer");
    let mut reader = Reader::new(&reply);
    let (xid, kind, denied) = (reader.u32().unwrap(), reader.u32().unwrap(), reader.u32().unwrap());
    assert_eq!(kind, 1, "a reply");
    if denied == 1 {
        return (xid, None);
    }
    assert_eq!((denied, reader.u64().unwrap()), (0, 0));
    (xid, Some((reader.u32().unwrap(), reader.rest().to_vec())))
}

/// Puts a file of `size` zeros into the tree that takes no room there.
pub fn put_zeros(site: &Site, name: &str, size: u64) {
    site.put(name, b"");
    let file = std::fs::File::options().write(true).open(site.tree().join(name)).unwrap();
    file.write_all_at(&[0], size - 1).unwrap();
}
