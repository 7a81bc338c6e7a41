//! Clients that break the transport's rules or use more than their share: claims, fragments, slow
//! and deaf peers, resets, floods of connections and of calls.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use nfs_verity::sys::descriptors;
use rustix::net::sockopt::set_socket_linger;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use super::siege::{
    FILE, HEADER, READ_MAX, Siege, answer, arguments, call, connect, connect_narrow, put_zeros, read, record,
};
use super::support::{Client, MOUNT, NFS, Random, Site, eventually, receive_record};

const NULL: (u32, u32, u32) = (NFS, 3, 0);
const GETATTR: (u32, u32, u32) = (NFS, 3, 1);
const READDIR: (u32, u32, u32) = (NFS, 3, 16);

/// Waits for the gateway to close or reset the connection without an answer, and before its limits
/// of time would.
fn is_cut(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
    assert!(rest.is_empty());
}

#[test]
fn records_that_claim_gigabytes_cost_nothing() {
    let mut siege = Siege::begin(|_| {});
    for mark in [0xffff_ffffu32, 0x7fff_ffff, 0x8010_0000, 0x0010_0000] {
        let mut streams: Vec<_> = (0..50).map(|_| connect(siege.address())).collect();
        for stream in &mut streams {
            stream.write_all(&mark.to_be_bytes()).unwrap();
        }
        streams.iter_mut().for_each(is_cut);
    }
    // Claims that are allowed are not believed before the bytes are there.
    let mut claims = Vec::new();
    for n in 0..1000u32 {
        let mut stream = connect(siege.address());
        stream.write_all(&[&(((n % 2) << 31) | 0x2_0000).to_be_bytes()[..], b"begun"].concat()).unwrap();
        claims.push(stream);
        if n % 100 == 99 {
            siege.others_are_served();
        }
    }
    siege.others_are_served();
    drop(claims);
    siege.end();
}

#[test]
fn a_small_call_that_claims_billions_of_groups_is_refused() {
    let siege = Siege::begin(|_| {});
    let mut stream = connect(siege.address());
    for gids in [17, 0x4000_0000, 0x7fff_ffff, u32::MAX] {
        let message = arguments(|w| {
            w.u32(gids).u32(0).u32(2).u32(NFS).u32(3).u32(0);
            w.u32(1).u32(28).u32(0).opaque(b"12345678").u32(0).u32(0).u32(gids);
            w.u32(0).u32(0);
        });
        assert_eq!(message.len(), 68);
        stream.write_all(&record(&message)).unwrap();
        // Denied: AUTH_ERROR, AUTH_BADCRED.
        let denied = receive_record(&mut stream).unwrap();
        assert_eq!(denied, arguments(|w| _ = w.u32(gids).u32(1).u32(1).u32(1).u32(1)));
    }
    // Lengths of credential, machine name and verifier.
    for (at, status) in [(7, 1), (9, 1), (14, 3)] {
        for length in [401, 0x7fff_ffff, u32::MAX] {
            let mut words = [1, 0, 2, NFS, 3, 0, 1, 20, 0, 0, 0, 0, 0, 0, 0];
            words[at] = length;
            let message = arguments(|w| words.iter().for_each(|word| _ = w.u32(*word)));
            stream.write_all(&record(&message)).unwrap();
            let denied = receive_record(&mut stream).unwrap();
            assert_eq!(denied, arguments(|w| _ = w.u32(1).u32(1).u32(1).u32(1).u32(status)));
        }
    }
    siege.end();
}

#[test]
fn open_fragments_are_bounded_and_endless_chains_are_cut() {
    let mut siege = Siege::begin(|_| {});
    for fragment in [&[0, 0, 0, 0][..], &[0, 0, 0, 1, 7]] {
        let mut stream = connect(siege.address());
        // It may be cut before all is written.
        let _ = stream.write_all(&fragment.repeat(100_000));
        is_cut(&mut stream);
    }
    // More than the gateway has memory for, in records that are all within their bounds.
    let open: Vec<_> = (0..1000)
        .map(|n| {
            let mut stream = connect(siege.address());
            stream.set_nonblocking(true).unwrap();
            let bytes = match n % 3 {
                0 => [&(60_000u32 | 1 << 31).to_be_bytes()[..], &[0; 50_000]].concat(),
                1 => [&60_000u32.to_be_bytes()[..], &[0; 60_000], &50_000u32.to_be_bytes()].concat(),
                _ => [0, 0, 4, 0].iter().copied().chain([1; 1024]).collect::<Vec<u8>>().repeat(60),
            };
            // The gateway may stop reading, so what is not taken is left out.
            let _ = stream.write(&bytes);
            stream
        })
        .collect();
    siege.others_are_served();
    drop(open);
    siege.end();
}

#[test]
fn senders_of_single_bytes_hold_nobody_up_and_are_answered() {
    let mut siege = Siege::begin(|_| {});
    let file = siege.client().find(FILE).unwrap();
    let message = call(77, GETATTR, &arguments(|w| _ = w.opaque(&file)));
    let mut streams: Vec<_> = (0..150).map(|_| connect(siege.address())).collect();
    for (n, byte) in message.iter().enumerate() {
        for stream in &mut streams {
            stream.write_all(&[*byte]).unwrap();
        }
        if n % 40 == 39 {
            siege.others_are_served();
        }
    }
    for stream in &mut streams {
        let (xid, outcome) = answer(stream);
        assert_eq!((xid, outcome.unwrap().0), (77, 0));
    }
    siege.end();
}

#[test]
fn half_closed_connections_get_their_answers_and_an_end() {
    let mut siege = Siege::begin(|_| {});
    let file = siege.client().find(FILE).unwrap();
    let cut = read(9, &file, 0, 10);
    let mut streams: Vec<_> = (0..300)
        .map(|n| {
            let mut stream = connect(siege.address());
            for xid in 0..n % 4 {
                stream.write_all(&read(xid, &file, 0, READ_MAX)).unwrap();
            }
            if n % 2 == 0 {
                stream.write_all(&cut[..cut.len() / 2]).unwrap();
            }
            stream.shutdown(Shutdown::Write).unwrap();
            stream
        })
        .collect();
    siege.others_are_served();
    for (n, stream) in (0..).zip(&mut streams) {
        let mut xids: Vec<u32> = (0..n % 4).map(|_| answer(stream).0).collect();
        xids.sort_unstable();
        assert_eq!(xids, (0..n % 4).collect::<Vec<_>>());
        is_cut(stream);
    }
    siege.end();
}

#[test]
fn resets_at_any_moment_are_survived() {
    let mut siege = Siege::begin(|_| {});
    let file = siege.client().find(FILE).unwrap();
    let message = read(1, &file, 0, READ_MAX);
    for n in 0..1000 {
        let mut stream = connect(siege.address());
        match n % 4 {
            0 => {}
            1 => stream.write_all(&message[..n % message.len()]).unwrap(),
            2 => stream.write_all(&message).unwrap(),
            _ => {
                stream.write_all(&message).unwrap();
                stream.read_exact(&mut [0; 30]).unwrap();
            }
        }
        set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    }
    siege.others_are_served();
    siege.end();
}

#[test]
fn two_thousand_connections_are_held_and_served() {
    assert!(descriptors::raise_limit() >= 4096, "needs 4096 descriptors: raise the hard limit (ulimit -Hn)");
    let mut siege = Siege::begin(|_| {});
    let file = siege.client().find(FILE).unwrap();
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.extend((0..100).map(|_| connect(siege.address())));
        siege.others_are_served();
    }
    for stream in &mut streams {
        stream.write_all(&read(3, &file, 0, 1000)).unwrap();
    }
    for stream in &mut streams {
        let (xid, outcome) = answer(stream);
        assert_eq!((xid, outcome.unwrap().0), (3, 0));
    }
    siege.others_are_served();
    drop(streams);
    siege.end();
}

#[test]
fn a_gateway_out_of_descriptors_goes_on() {
    let names: Vec<String> = (0..200).map(|n| format!("many/{n}")).collect();
    let mut siege =
        Siege::begin_poor(64, |site| names.iter().for_each(|name| site.put(name, b"one of many")));
    let files: Vec<_> = names.iter().map(|name| siege.client().find(name).unwrap()).collect();
    let mut streams = Vec::new();
    for n in 0..120 {
        let mut stream = connect(siege.address());
        // Each of these holds descriptors open, too. The gateway may cut whom it likes.
        let _ = stream.write_all(&read(1, &files[n % files.len()], 0, 10));
        streams.push(stream);
        if n % 40 == 39 {
            siege.others_are_served();
        }
    }
    siege.others_are_served();
    drop(streams);
    let cut = "nfs_verity_disconnects_total{reason=\"too many connections\"}";
    assert!(siege.gateway.metric(cut) > 0.0);
    siege.end();
}

#[test]
fn descriptors_that_files_hold_are_given_up() {
    let site = Site::new();
    let names: Vec<String> = (0..40).map(|n| format!("many/{n}")).collect();
    names.iter().for_each(|name| site.put(name, b"one of many"));
    site.sign(&[]);
    let served = site.serve(&[]);
    let read = |names: &[String]| {
        let mut client = Client::connect(served.nfs);
        client.stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        for name in names {
            let file = client.find(name).unwrap();
            assert_eq!(client.read(&file, 0, 100).unwrap().0, b"one of many");
        }
        client
    };
    drop(read(&names[..20]));
    eventually("nobody is connected", || served.metric("nfs_verity_connections") == 0.0);
    let mut open = 0;
    eventually("descriptors are as they stay", || {
        let before = open;
        open = std::fs::read_dir(format!("/proc/{}/fd", served.child.id())).unwrap().count() as u64;
        open == before
    });
    // There are none left, and no connection that could be cut. Then few are: whatever wants the last one, a
    // connection, a file, its evidence or a look at a name, gets one.
    for spare in 0..4 {
        let limit = Rlimit { current: Some(open + spare), ..getrlimit(Resource::Nofile) };
        prlimit(Some(Pid::from_child(&served.child)), Resource::Nofile, limit).unwrap();
        let client = read(&names);
        assert_eq!(served.metric("nfs_verity_connections"), 1.0);
        drop(client);
    }
}

#[test]
fn hundreds_that_never_read_their_replies_starve_nobody() {
    let mut siege = Siege::begin(|site| put_zeros(site, "big", 64 << 20));
    let file = siege.client().find("big").unwrap();
    let deaf: Vec<_> = (0..400u32)
        .map(|n| {
            let mut stream = connect_narrow(siege.address());
            let offset = |xid| u64::from((n + xid) % 64) << 20;
            let calls: Vec<u8> = (0..64).flat_map(|xid| read(xid, &file, offset(xid), READ_MAX)).collect();
            stream.write_all(&calls).unwrap();
            stream
        })
        .collect();
    siege.others_are_served_throughout();
    drop(deaf);
    siege.end();
}

#[test]
fn many_that_read_their_replies_in_drips_starve_nobody() {
    let mut siege = Siege::begin(|site| put_zeros(site, "big", 64 << 20));
    let file = siege.client().find("big").unwrap();
    let address = siege.address();
    let calls: Vec<u8> = (0..64).flat_map(|xid| read(xid, &file, u64::from(xid) << 20, READ_MAX)).collect();
    let begin = move || {
        let mut stream = connect_narrow(address);
        stream.write_all(&calls).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    };
    let mut slow: Vec<_> = (0..100).map(|_| begin()).collect();
    let over = Arc::new(AtomicBool::new(false));
    let ended = over.clone();
    let dripping = std::thread::spawn(move || {
        while !ended.load(SeqCst) {
            for stream in &mut slow {
                match stream.read(&mut [0; 16 << 10]) {
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Ok(1..) => {}
                    // Whom the gateway cuts comes again.
                    Ok(0) | Err(_) => *stream = begin(),
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    siege.others_are_served_throughout();
    over.store(true, SeqCst);
    dripping.join().unwrap();
    siege.end();
}

#[test]
fn long_unread_listings_are_paid_for_in_full() {
    let mut siege = Siege::begin(|_| {});
    for n in 0..10_000 {
        siege.site.put(format!("crowd/{n:0240}"), b"");
    }
    let directory = siege.client().find("crowd").unwrap();
    let page = |xid, procedure: (u32, u32, u32)| {
        let plus = procedure.2 == 17;
        call(
            xid,
            procedure,
            &arguments(|w| {
                w.opaque(&directory).u64(0).u64(0).u32(u32::MAX);
                if plus {
                    w.u32(u32::MAX);
                }
            }),
        )
    };
    let deaf: Vec<_> = (0..300)
        .map(|n| {
            let mut stream = connect_narrow(siege.address());
            let procedure = if n % 8 == 0 { (NFS, 3, 17) } else { READDIR };
            let calls: Vec<u8> = (0..16).flat_map(|xid| page(xid, procedure)).collect();
            stream.write_all(&calls).unwrap();
            stream
        })
        .collect();
    siege.others_are_served_throughout();
    drop(deaf);
    siege.end();
}

#[test]
fn a_hundred_thousand_calls_at_once_are_answered_when_their_replies_are_read() {
    const CALLS: u32 = 100_000;
    let mut siege = Siege::begin(|_| {});
    let file = siege.client().find(FILE).unwrap();
    let mut stream = connect(siege.address());
    let mut sending = stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let arguments = arguments(|w| _ = w.opaque(&file));
        let all: Vec<u8> = (0..CALLS).flat_map(|xid| call(xid, GETATTR, &arguments)).collect();
        sending.set_write_timeout(None).unwrap();
        sending.write_all(&all).unwrap();
    });
    siege.others_are_served_throughout();
    let mut seen = vec![false; CALLS as usize];
    let mut reader = std::io::BufReader::new(&mut stream);
    for _ in 0..CALLS {
        let reply = receive_record(&mut reader).unwrap();
        assert_eq!(reply.len(), HEADER + 4 + 84);
        assert_eq!(reply[4..HEADER + 4], [&[0, 0, 0, 1][..], &[0; 20]].concat());
        let xid = u32::from_be_bytes(reply[..4].try_into().unwrap());
        assert!(!std::mem::replace(&mut seen[xid as usize], true), "{xid} twice");
    }
    sender.join().unwrap();
    siege.end();
}

#[test]
fn calls_that_cost_much_work_on_many_connections_leave_time_for_others() {
    let mut siege = Siege::begin(|site| {
        for n in 0..300 {
            site.put(format!("crowd/{n}"), b"signed, so it costs to tell its size");
        }
    });
    let directory = siege.client().find("crowd").unwrap();
    let list = arguments(|w| _ = w.opaque(&directory).u64(0).u64(0).u32(4096).u32(4096));
    let calls: Vec<u8> = (0..60).flat_map(|xid| call(xid, (NFS, 3, 17), &list)).collect();
    let busy: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = connect_narrow(siege.address());
            stream.write_all(&calls).unwrap();
            stream
        })
        .collect();
    siege.others_are_served_throughout();
    drop(busy);
    siege.end();
}

#[test]
fn garbage_of_all_kinds_is_survived() {
    let mut siege = Siege::begin(|_| {});
    let mut random = Random::new(4711);
    let mut bytes =
        |max: u64| -> Vec<u8> { (0..random.below(max)).map(|_| random.next().to_le_bytes()[0]).collect() };
    for n in 0..2000u32 {
        let mut stream = connect(siege.address());
        let garbage = match n % 4 {
            0 => bytes(3000),
            1 => record(&bytes(3000)),
            2 => call(n, (NFS, 3, n % 23), &bytes(300)),
            _ => call(n, (MOUNT, 3, n % 7), &bytes(300)),
        };
        let _ = stream.write_all(&garbage);
        if n % 4 >= 2 {
            assert_eq!(answer(&mut stream).0, n);
        }
        if n % 500 == 0 {
            siege.others_are_served();
        }
    }
    siege.end();
}

#[test]
fn unknown_programs_versions_and_procedures_have_their_answers() {
    let siege = Siege::begin(|_| {});
    let mut stream = connect(siege.address());
    let mut status = |target, xid| {
        stream.write_all(&call(xid, target, &[])).unwrap();
        let (of, outcome) = answer(&mut stream);
        assert_eq!(of, xid);
        outcome.unwrap()
    };
    let (unavailable, mismatch, no_procedure) = (1, 2, 3);
    for program in [0, 1, 99_999, 100_000, 100_004, 100_021, 100_227, 0x4000_0000, u32::MAX] {
        assert_eq!(status((program, 3, 0), program), (unavailable, Vec::new()));
    }
    for version in [0, 1, 2, 4, 5, 0x8000_0000, u32::MAX] {
        for (program, high) in [(NFS, 4), (MOUNT, 3)] {
            if version != high {
                let low_and_high = arguments(|w| _ = w.u32(3).u32(high));
                assert_eq!(status((program, version, 0), version), (mismatch, low_and_high));
            }
        }
    }
    for procedure in [22, 23, 255, 0x8000_0000, u32::MAX] {
        assert_eq!(status((NFS, 3, procedure), procedure), (no_procedure, Vec::new()));
        assert_eq!(status((MOUNT, 3, procedure), procedure), (no_procedure, Vec::new()));
    }
    assert_eq!(status(NULL, 5), (0, Vec::new()));
    siege.end();
}

#[test]
fn one_xid_for_everything_gets_everything_its_own_answer() {
    let siege = Siege::begin(|site| site.put("other", b"other content"));
    let mut client = siege.client();
    let (file, other) = (client.find(FILE).unwrap(), client.find("other").unwrap());
    let mut stream = connect(siege.address());
    for n in 0..2000 {
        let (handle, wanted) = if n % 2 == 0 {
            (&other, b"other content".to_vec())
        } else {
            (&file, super::siege::honest_content())
        };
        stream.write_all(&read(1, handle, 0, READ_MAX)).unwrap();
        let (status, results) = answer(&mut stream).1.unwrap();
        assert_eq!(status, 0);
        // Behind status, attributes, count, end of file and length.
        assert_eq!(results[4 + 88 + 12..][..wanted.len()], wanted);
    }
    // Of calls that are remembered, a repeat gets the same answer, and another call its own.
    for path in [&b"/"[..], b"/dir", b"/none", b"/", b"/dir", b"/none"] {
        stream.write_all(&call(1, (MOUNT, 3, 1), &arguments(|w| _ = w.opaque(path)))).unwrap();
        let results = answer(&mut stream).1.unwrap().1;
        assert_eq!(results[..4] == [0; 4], path != b"/none");
    }
    siege.end();
}
