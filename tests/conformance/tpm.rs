//! A TPM's register that follows the measurement list, and quotes of it: the gateway against swtpm, and `tpm2_pcrread`
//! and `tpm2_checkquote` of tpm2-tools on what both leave.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use nfs_verity::measure::{Bank, Banks, Mark, pcrs, verify_chain};
use serde_json::Value;

use crate::support::{Client, Served, Site, Status, eventually, nfs_verity};

/// The client tries again later.
const NFS3ERR_JUKEBOX: Status = Status(10008);
const NONCE: &str = "00112233445566778899aabbccddeeff";

/// A software TPM on two ports of its own, ended when dropped.
struct Swtpm {
    state: tempfile::TempDir,
    port: u16,
    child: Child,
}

impl Swtpm {
    fn new() -> Self {
        for _ in 0..20 {
            // The second port is that of its control channel, which the library takes to be the next one.
            let Ok(first) = TcpListener::bind("127.0.0.1:0") else { continue };
            let port = first.local_addr().unwrap().port();
            let Ok(second) = TcpListener::bind(("127.0.0.1", port.saturating_add(1))) else { continue };
            drop((first, second));
            let state = tempfile::tempdir().unwrap();
            let child = spawn(&state, port);
            let mut tpm = Self { state, port, child };
            if tpm.is_up() {
                return tpm;
            }
        }
        panic!("no two ports are free");
    }

    /// Whether it answers, waited for until it does or has ended.
    fn is_up(&mut self) -> bool {
        let mut ended = false;
        eventually("swtpm answers or ends", || {
            ended = self.child.try_wait().unwrap().is_some();
            ended || self.tool("tpm2_getcap", &["pcrs"]).status.success()
        });
        // One that found its port taken has ended by now, and it was another one that answered.
        !ended && self.child.try_wait().unwrap().is_none()
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// As when the machine is started anew: its registers are set back.
    fn start_anew(&mut self) {
        self.kill();
        eventually("swtpm starts", || {
            self.child = spawn(&self.state, self.port);
            self.is_up()
        });
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    fn tcti(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
    }

    fn tool(&self, name: &str, args: &[&str]) -> Output {
        let mut command = Command::new(name);
        command
            .args(args)
            .env("TPM2TOOLS_TCTI", self.tcti())
            .env("TSS2_LOG", "all+none")
            .current_dir(&self.state);
        command
            .output()
            .unwrap_or_else(|error| panic!("{name}: {error} (Debian: apt-get install tpm2-tools)"))
    }

    fn does(&self, name: &str, args: &[&str]) -> String {
        let output = self.tool(name, args);
        assert!(output.status.success(), "{name} {args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What `tpm2_pcrread` says of the register, in hex digits.
    fn held(&self, pcr: u32, bank: Bank) -> String {
        let told = self.does("tpm2_pcrread", &[&format!("{bank}:{pcr}")]);
        let value = told.split("0x").nth(1).unwrap_or_else(|| panic!("{told}"));
        value.trim().to_lowercase()
    }

    fn assert_holds(&self, pcr: u32, banks: &Banks) {
        for bank in Bank::ALL {
            assert_eq!(self.held(pcr, bank), hex::encode(banks.get(bank)), "{bank}");
        }
    }

    fn extend(&self, pcr: u32) {
        let digest = "ab".repeat(32);
        self.does("tpm2_pcrextend", &[&format!("{pcr}:sha256={digest}")]);
    }
}

fn spawn(state: &tempfile::TempDir, port: u16) -> Child {
    let address = |port: u16| format!("type=tcp,port={port},bindaddr=127.0.0.1");
    let mut swtpm = Command::new("swtpm");
    swtpm.args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"]);
    swtpm.arg("--tpmstate").arg(format!("dir={}", state.path().display()));
    swtpm.args(["--server", &address(port), "--ctrl", &address(port + 1)]);
    swtpm.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    swtpm.spawn().unwrap_or_else(|error| panic!("swtpm: {error} (Debian: apt-get install swtpm)"))
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A signed tree, and the settings of a gateway that measures into the TPM.
struct Scene {
    site: Site,
    tpm: Swtpm,
}

impl Scene {
    fn new() -> Self {
        let site = Site::new();
        for name in ["one", "two", "three", "four"] {
            site.put(name, name.as_bytes());
        }
        site.sign(&[]);
        let scene = Self { site, tpm: Swtpm::new() };
        scene.set(&format!("measure_tpm = {{ tcti = \"{}\" }}\n", scene.tpm.tcti()));
        scene
    }

    fn set(&self, settings: &str) {
        let settings = format!("measure = \"list\"\n{settings}");
        fs::write(self.site.path("gateway.toml"), settings).unwrap();
    }

    fn list(&self) -> PathBuf {
        self.site.path("list")
    }

    fn flags(&self) -> [String; 4] {
        let path = |name: &str| self.site.path(name).into_os_string().into_string().unwrap();
        ["--config".to_owned(), path("gateway.toml"), "--audit-log".to_owned(), path("audit")]
    }

    fn serve(&self) -> Served {
        self.site.serve(&self.flags().each_ref().map(String::as_str))
    }

    /// What a gateway says that does not start.
    fn refused(&self, code: i32) -> String {
        let path = |name: &str| self.site.path(name).into_os_string().into_string().unwrap();
        let free = "127.0.0.1:0".to_owned();
        let args = ["serve", "--store", &path("tree"), "--trust", &path("trust"), "--state", &path("state")];
        let args = args.map(str::to_owned).into_iter().chain(self.flags());
        let args = args.chain(["--listen".into(), free.clone(), "--monitor".into(), free]);
        let output = nfs_verity(args);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Waits until the audit log has these words; it is written on the side.
    fn tells(&self, words: &str) {
        eventually(words, || fs::read_to_string(self.site.path("audit")).unwrap().contains(words));
    }

    /// What the list comes to.
    fn comes_to(&self) -> (u64, Banks) {
        let chain = verify_chain(&self.list(), &|_, _| true).unwrap();
        (chain.records, chain.end)
    }

    fn mark(&self) -> Mark {
        Mark::open(&fs::read(self.list().join("register")).unwrap(), &|_, _| true).unwrap()
    }

    fn quote(&self, out: &str, more: &[&str]) -> Output {
        let (out, list, tcti) = (self.site.path(out), self.list(), self.tpm.tcti());
        let args = ["measure", "quote", "--nonce", NONCE, "--tcti", &tcti, "--out", out.to_str().unwrap()];
        nfs_verity(args.iter().chain(more).chain([&list.to_str().unwrap()]))
    }

    fn quotes(&self, out: &str, more: &[&str]) {
        let output = self.quote(out, more);
        assert!(output.status.success(), "{output:?}");
    }

    fn verify(&self, quote: &str, key: &str, nonce: &str, more: &[&str]) -> Output {
        let path = |name: &str| self.site.path(name).into_os_string().into_string().unwrap();
        let (quote, key, list, public) = (path(quote), path(key), path("list"), path("state/measure.pub"));
        let args =
            ["measure", "verify", "--key", &public, "--quote", &quote, "--quote-key", &key, "--nonce", nonce];
        nfs_verity(args.iter().chain(more).chain([&list.as_str()]))
    }

    /// What `measure verify` says of a good quote.
    fn verified(&self, quote: &str) -> Value {
        let output = self.verify(quote, &format!("{quote}/ak.pem"), NONCE, &["--json"]);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What it says of another.
    fn doubted(&self, quote: &str, wanted: &str) {
        let output = self.verify(quote, &format!("{quote}/ak.pem"), NONCE, &[]);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.code() == Some(1) && told.contains(wanted), "{wanted}: {output:?}");
    }

    fn checkquote(&self, quote: &str, nonce: &str) -> bool {
        let path = |name: &str| self.site.path(quote).join(name).into_os_string().into_string().unwrap();
        let (key, message, signature, held) =
            (path("ak.pem"), path("quote.msg"), path("quote.sig"), path("quote.pcrs"));
        let args = ["-u", &key, "-m", &message, "-s", &signature, "-f", &held, "-g", "sha256", "-q", nonce];
        self.tpm.tool("tpm2_checkquote", &args).status.success()
    }

    /// A copy of a quote, of which a byte of a file is another.
    fn tampered(&self, quote: &str, file: &str, at: u64) -> &'static str {
        let (from, to) = (self.site.path(quote), self.site.path("tampered"));
        fs::create_dir_all(&to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
        let opened = fs::File::options().read(true).write(true).open(to.join(file)).unwrap();
        let mut byte = [0];
        opened.read_exact_at(&mut byte, at).unwrap();
        opened.write_all_at(&[byte[0] ^ 1], at).unwrap();
        "tampered"
    }
}

fn read(served: &Served, name: &str) -> Result<Vec<u8>, Status> {
    let mut client = Client::connect(served.nfs);
    let file = client.find(name).unwrap();
    client.read(&file, 0, 10_000).map(|(bytes, _)| bytes)
}

#[test]
fn the_register_holds_what_the_pcrs_files_say_and_its_quotes_are_good() {
    let scene = Scene::new();
    let served = scene.serve();
    for name in ["one", "two", "one"] {
        assert_eq!(read(&served, name).unwrap(), name.as_bytes());
        scene.tpm.assert_holds(13, &scene.comes_to().1);
    }
    for bank in Bank::ALL {
        let text = fs::read_to_string(scene.list().join(pcrs(bank))).unwrap();
        assert!(text.contains(&format!("PCR-10: {}\n", scene.tpm.held(13, bank))), "{bank}: {text}");
    }
    assert_eq!(scene.comes_to().0, 3);
    scene.quotes("early", &[]);
    assert!(scene.checkquote("early", NONCE), "tpm2_checkquote takes it");
    assert!(!scene.checkquote("early", "aa112233445566778899aabbccddeeff"));
    read(&served, "three").unwrap();
    scene.quotes("late", &[]);
    assert!(scene.checkquote("late", NONCE));
    let key = |quote: &str| fs::read(scene.site.path(quote).join("ak.pem")).unwrap();
    assert_eq!(key("early"), key("late"), "the key is the same each time");
    for (quote, records) in [("early", 3), ("late", 4)] {
        let told = scene.verified(quote);
        assert_eq!((&told["quote"]["records"], &told["records"]), (&records.into(), &4.into()));
        assert_eq!((&told["quote"]["pcr"], &told["quote"]["whole"]), (&13.into(), &true.into()));
        assert_eq!(told["quote"]["banks"].as_array().unwrap().len(), 3);
    }
}

#[test]
fn a_quote_or_a_list_that_was_altered_is_found() {
    let scene = Scene::new();
    let served = scene.serve();
    ["one", "two", "three"].iter().for_each(|name| _ = read(&served, name).unwrap());
    scene.quotes("quote", &[]);
    drop(served);
    scene.verified("quote");

    let size = |file: &str| fs::metadata(scene.site.path("quote").join(file)).unwrap().len();
    for file in ["quote.msg", "quote.sig"] {
        for at in (0..size(file)).step_by(5) {
            let tampered = scene.tampered("quote", file, at);
            let output = scene.verify(tampered, "quote/ak.pem", NONCE, &[]);
            assert_eq!(output.status.code(), Some(1), "{file} {at}: {output:?}");
        }
    }
    // Where the register began is nobody's to choose.
    let text = fs::read_to_string(scene.site.path("quote/register")).unwrap();
    for (from, to) in [("began 0", "began 1"), ("pcr 13", "pcr 14")] {
        scene.tampered("quote", "register", 0);
        let text = text.replace(from, to).replace("records 0", "records 1");
        fs::write(scene.site.path("tampered/register"), text).unwrap();
        assert_eq!(scene.verify("tampered", "quote/ak.pem", NONCE, &[]).status.code(), Some(1), "{to}");
    }
    let other = scene.verify("quote", "quote/ak.pem", "ff112233445566778899aabbccddeeff", &[]);
    assert!(String::from_utf8_lossy(&other.stdout).contains("another nonce"), "{other:?}");
    let other = scene.verify("quote", "trust/release.pub", NONCE, &[]);
    assert!(String::from_utf8_lossy(&other.stdout).contains("not signed by this key"), "{other:?}");
    let other = scene.verify("quote", "quote/ak.pem", NONCE, &["--quote-pcr", "16"]);
    assert!(String::from_utf8_lossy(&other.stdout).contains("of register 13 and not 16"), "{other:?}");

    // Each list is one that verifies by itself.
    let binary = scene.list().join("binary_runtime_measurements");
    let whole = fs::read(&binary).unwrap();
    let mut records = Vec::new();
    let mut ends: Vec<usize> = nfs_verity::measure::Records::new(&whole)
        .map(|record| usize::try_from(record.unwrap().offset).unwrap())
        .collect();
    ends.push(whole.len());
    ends.windows(2).for_each(|pair| records.push(&whole[pair[0]..pair[1]]));
    let [boot, one, two, three] = records[..] else { panic!("{} records", records.len()) };
    for list in [
        [boot, one, two].concat(),
        [boot, two, three].concat(),
        [boot, one, three, two].concat(),
        [boot, one, one, two, three].concat(),
        [one, two, three].concat(),
    ] {
        fs::write(&binary, list).unwrap();
        scene.doubted("quote", "of another list");
    }
    fs::write(&binary, [boot, one, two, three, one].concat()).unwrap();
    assert_eq!(scene.verified("quote")["quote"]["records"], 4, "what comes behind is as good");
}

#[test]
fn a_gateway_that_is_killed_before_the_register_is_made_good_by_the_next() {
    let scene = Scene::new();
    let served = scene.serve();
    read(&served, "one").unwrap();
    // The list has the record, and the TPM does not answer.
    scene.tpm.signal("STOP");
    assert_eq!(read(&served, "two"), Err(NFS3ERR_JUKEBOX));
    assert_eq!(scene.comes_to().0, 3);
    assert_eq!(read(&served, "one").unwrap(), b"one", "what is attested is served");
    drop(served);
    scene.tpm.signal("CONT");
    let served = scene.serve();
    scene.tpm.assert_holds(13, &scene.comes_to().1);
    read(&served, "two").unwrap();
    drop(served);

    // Records of a gateway that had no TPM.
    scene.set("");
    let served = scene.serve();
    read(&served, "three").unwrap();
    drop(served);
    scene.set(&format!("measure_tpm = {{ tcti = \"{}\" }}\n", scene.tpm.tcti()));
    let served = scene.serve();
    scene.tells("1 records were extended into the TPM's register");
    let (records, end) = scene.comes_to();
    assert_eq!(records, 4);
    scene.tpm.assert_holds(13, &end);
    scene.quotes("quote", &[]);
    assert_eq!(scene.verified("quote")["quote"]["records"], 4);
    drop(served);
}

#[test]
fn after_a_start_of_the_machine_the_register_goes_on_from_the_whole_list() {
    let mut scene = Scene::new();
    let served = scene.serve();
    ["one", "two"].iter().for_each(|name| _ = read(&served, name).unwrap());
    scene.quotes("before", &[]);
    drop(served);
    scene.tpm.start_anew();
    let served = scene.serve();
    scene.tells("reset and goes on behind record 3");
    let (records, aggregate) = scene.comes_to();
    let mut wanted = Banks::ZERO;
    wanted.extend(&aggregate);
    scene.tpm.assert_holds(13, &wanted);
    assert_eq!(scene.mark(), Mark { pcr: 13, began: 3, records: 3, banks: wanted });
    assert_eq!(records, 3);
    read(&served, "three").unwrap();
    scene.quotes("after", &[]);
    assert!(scene.checkquote("after", NONCE));
    let (before, after) = (scene.verified("before"), scene.verified("after"));
    assert_eq!((&before["quote"]["records"], &after["quote"]["records"]), (&3.into(), &4.into()));
    assert_eq!((&after["quote"]["began"], &after["quote"]["whole"]), (&3.into(), &true.into()));
    let resets = |told: &Value| told["quote"]["resets"].as_u64().unwrap();
    assert!(resets(&after) > resets(&before));
    drop(served);
    // Another start of the gateway alone changes nothing.
    let held = scene.tpm.held(13, Bank::Sha256);
    let served = scene.serve();
    assert_eq!(scene.tpm.held(13, Bank::Sha256), held);
    read(&served, "four").unwrap();
    scene.quotes("later", &[]);
    assert_eq!(scene.verified("later")["quote"]["records"], 5);
}

#[test]
fn what_other_software_extended_is_told_and_nothing_new_is_served() {
    let scene = Scene::new();
    let served = scene.serve();
    read(&served, "one").unwrap();
    scene.tpm.extend(13);
    assert_eq!(read(&served, "two"), Err(NFS3ERR_JUKEBOX));
    assert_eq!(read(&served, "three"), Err(NFS3ERR_JUKEBOX));
    assert!(served.metric("nfs_verity_measuring_failures_total") >= 1.0);
    assert_eq!(read(&served, "one").unwrap(), b"one", "what was attested before is served");
    scene.tells("other software extended or reset it");
    scene.quotes("quote", &[]);
    scene.doubted("quote", "of another list");
    drop(served);
    let told = scene.refused(3);
    assert!(told.contains("register 13") && told.contains("give measure_tpm another pcr"), "{told}");
    // Another register, which is set back by whoever likes to: that is told each time.
    scene.set(&format!("measure_tpm = {{ tcti = \"{}\", pcr = 16 }}\n", scene.tpm.tcti()));
    let served = scene.serve();
    scene.tells("measure_tpm = { pcr = 16 }");
    read(&served, "two").unwrap();
    scene.tpm.does("tpm2_pcrreset", &["16"]);
    assert_eq!(read(&served, "three"), Err(NFS3ERR_JUKEBOX), "as told by an event and not started anew");
}

#[test]
fn a_tpm_that_is_gone_lets_new_files_wait() {
    let mut scene = Scene::new();
    let served = scene.serve();
    read(&served, "one").unwrap();
    scene.tpm.kill();
    assert_eq!(read(&served, "two"), Err(NFS3ERR_JUKEBOX));
    assert_eq!(read(&served, "three"), Err(NFS3ERR_JUKEBOX));
    assert_eq!(read(&served, "one").unwrap(), b"one", "what was attested before is served");
    scene.tells("the TPM cannot extend register 13");
    drop(served);
    let told = scene.refused(3);
    assert!(told.contains("the TPM cannot read register 13"), "{told}");
    assert!(!scene.quote("quote", &[]).status.success());
    scene.tpm.start_anew();
    let served = scene.serve();
    assert_eq!(read(&served, "two").unwrap(), b"two");
    scene.quotes("quote", &[]);
    assert_eq!(scene.verified("quote")["quote"]["records"], 3);
}

#[test]
fn a_persistent_key_with_rsa_signs_too() {
    let scene = Scene::new();
    let served = scene.serve();
    read(&served, "one").unwrap();
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign";
    scene.tpm.does(
        "tpm2_createprimary",
        &["-C", "e", "-G", "rsa2048:rsassa-sha256:null", "-a", attributes, "-c", "ak"],
    );
    scene.tpm.does("tpm2_evictcontrol", &["-C", "o", "-c", "ak", "0x81010002"]);
    // The library keeps no objects in a TPM without a resource manager.
    scene.tpm.does("tpm2_flushcontext", &["-t"]);
    scene.quotes("quote", &["--key-handle", "0x81010002"]);
    assert!(scene.checkquote("quote", NONCE));
    assert_eq!(scene.verified("quote")["quote"]["records"], 2);
    let output = scene.verify(scene.tampered("quote", "quote.sig", 100), "quote/ak.pem", NONCE, &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    // A key that signs anything proves nothing.
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign";
    scene.tpm.does(
        "tpm2_createprimary",
        &["-C", "o", "-G", "ecc:ecdsa-sha256:null", "-a", attributes, "-c", "any"],
    );
    scene.tpm.does("tpm2_evictcontrol", &["-C", "o", "-c", "any", "0x81010003"]);
    scene.tpm.does("tpm2_flushcontext", &["-t"]);
    let output = scene.quote("any", &["--key-handle", "0x81010003"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("restricted"), "{output:?}");
    assert!(!output.status.success() && !scene.site.path("any").exists());
}
