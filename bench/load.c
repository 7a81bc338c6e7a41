// load [OPTION...] ADDRESS PORT PATH: READs over NFSv3 or NFSv4.2, with every version by the same code, without a
// library, so that their times can be compared and thousands of connections fit in one process.
//
//   -v 3|4         the version (3); with 4 every connection has a session of its own, and opens the file
//   -m PORT        where MOUNT is, if not on PORT        -x EXPORT  what is mounted (/)
//   -c N           connections (1)                       -d N       READs under way on each (1)
//   -s BYTES       of a READ (4096)                      -o seq|rand  their order (seq)
//   -n N | -t SEC  how many READs in all, or how long (-t 5)
//   -r N           another seed of random offsets        -p SEC     a pause between opening and reading (0)
//
// Prints "MB/s READs/s P50 P99 P99.9 LEAST MOST": latencies in microseconds from the call's writing to its whole
// answer, and how many READs the slowest and the fastest connection had. Offsets are multiples of BYTES. Every status
// and length is checked, the bytes are not.
// cc -O2 load.c
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { MAX_DEPTH = 64, MAX_HANDLE = 128, HEAD = 512, CALL = 1024, MAX_READ = 1 << 20 };
enum { NFS = 100003, MOUNT = 100005 };
// Operations of NFSv4.
enum { GETATTR = 9, GETFH = 10, LOOKUP = 15, OPEN = 18, PUTFH = 22, PUTROOTFH = 24, READ = 25, EXCHANGE_ID = 42,
       CREATE_SESSION = 43, SEQUENCE = 53, RECLAIM_COMPLETE = 58 };

struct message {
    unsigned char bytes[CALL];
    size_t length, at;
};

struct slot {
    uint32_t xid, sequence;
    uint64_t since;
};

struct connection {
    int socket;
    struct slot slots[MAX_DEPTH];
    int in_flight;
    uint64_t operations, next, seed;
    unsigned char session[16], stateid[16];
    // The answer that is coming in: its first bytes, what is there of it and of its fragment, and what is missing.
    struct message head;
    size_t record;
    uint32_t fragment;
    int marker_bytes, last;
};

static int version = 3, connections = 1, depth = 1, randomly;
static uint64_t size = 4096, limit, file_size, seed = 1;
static double seconds = 5, pause_seconds;
static const char *export = "/";
static char *path;
static struct in_addr address;
static unsigned char handle[MAX_HANDLE];
static uint32_t handle_length, next_xid = 1;
static uint64_t issued, answered, deadline;
static uint32_t *latencies;
static size_t latency_room;

static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "load: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    exit(1);
}

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

// --- XDR

static void put_bytes(struct message *m, const void *bytes, size_t length) {
    size_t padded = (length + 3) & ~3UL;
    if (m->length + padded > sizeof m->bytes)
        die("a call is too long");
    memset(m->bytes + m->length, 0, padded);
    memcpy(m->bytes + m->length, bytes, length);
    m->length += padded;
}

static void put(struct message *m, uint32_t value) {
    value = htonl(value);
    put_bytes(m, &value, 4);
}

static void put64(struct message *m, uint64_t value) {
    put(m, value >> 32);
    put(m, value);
}

static void put_opaque(struct message *m, const void *bytes, size_t length) {
    put(m, length);
    put_bytes(m, bytes, length);
}

static const unsigned char *take(struct message *m, size_t length) {
    size_t padded = (length + 3) & ~3UL, at = m->at;
    if (padded < length || padded > m->length - at)
        die("an answer is too short");
    m->at += padded;
    return m->bytes + at;
}

static uint32_t get(struct message *m) {
    uint32_t value;
    memcpy(&value, take(m, 4), 4);
    return ntohl(value);
}

static uint64_t get64(struct message *m) {
    uint64_t high = get(m);
    return high << 32 | get(m);
}

// --- RPC

// Begins a call; its first word is left for the record's length.
static uint32_t begin(struct message *m, uint32_t program, uint32_t procedure) {
    m->length = 4;
    uint32_t xid = next_xid++;
    put(m, xid);
    put(m, 0);
    put(m, 2);
    put(m, program);
    put(m, program == MOUNT ? 3 : version);
    put(m, procedure);
    put(m, 1); // AUTH_SYS: stamp, machine, user, group, no more groups
    put(m, 24);
    put(m, 0);
    put_opaque(m, "load", 4);
    put(m, getuid());
    put(m, getgid());
    put(m, 0);
    put64(m, 0);
    return xid;
}

static void finish(struct message *m) {
    uint32_t marker = htonl(0x80000000 | (m->length - 4));
    memcpy(m->bytes, &marker, 4);
}

// Takes what stands before the results.
static uint32_t accepted(struct message *m) {
    uint32_t xid = get(m), reply = get(m), denied = get(m);
    get(m);
    take(m, get(m));
    uint32_t status = get(m);
    if (reply != 1 || denied || status)
        die("the call is not accepted: %u %u %u", reply, denied, status);
    return xid;
}

static int dial(int port) {
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = address};
    if (s < 0 || connect(s, (void *)&to, sizeof to))
        die("connect to port %d: %s", port, strerror(errno));
    setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct timeval patience = {.tv_sec = 20};
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return s;
}

static void send_all(int s, const void *bytes, size_t length) {
    ssize_t n = send(s, bytes, length, MSG_NOSIGNAL);
    if (n != (ssize_t)length) // some kilobytes at most are under way
        die("send: %s", n < 0 ? strerror(errno) : "the server does not read");
}

static void receive(int s, void *to, size_t length) {
    for (size_t at = 0; at < length;) {
        ssize_t n = recv(s, (char *)to + at, length - at, 0);
        if (n <= 0)
            die("no answer: %s", n ? strerror(errno) : "the connection ended");
        at += n;
    }
}

// Makes one call and waits for its results, which replace it.
static void call(int s, struct message *m) {
    finish(m);
    send_all(s, m->bytes, m->length);
    m->length = m->at = 0;
    for (uint32_t marker = 0; !(marker & 0x80000000);) {
        receive(s, &marker, 4);
        marker = ntohl(marker);
        uint32_t length = marker & 0x7fffffff;
        if (length > sizeof m->bytes - m->length)
            die("an answer of %u bytes", length);
        receive(s, m->bytes + m->length, length);
        m->length += length;
    }
    accepted(m);
}

static void ok(uint32_t status, const char *what) {
    if (status)
        die("%s: status %u", what, status);
}

static void get_handle(struct message *m) {
    uint32_t length = get(m);
    if (length > MAX_HANDLE)
        die("a handle of %u bytes", length);
    memcpy(handle, take(m, length), handle_length = length);
}

// --- NFSv3

static void find3(int s, int mount_port) {
    struct message m;
    int mount = dial(mount_port);
    begin(&m, MOUNT, 1);
    put_opaque(&m, export, strlen(export));
    call(mount, &m);
    ok(get(&m), export);
    get_handle(&m);
    close(mount);
    for (char *name = strtok(path, "/"); name; name = strtok(NULL, "/")) {
        begin(&m, NFS, 3);
        put_opaque(&m, handle, handle_length);
        put_opaque(&m, name, strlen(name));
        call(s, &m);
        ok(get(&m), name);
        get_handle(&m);
    }
    begin(&m, NFS, 1);
    put_opaque(&m, handle, handle_length);
    call(s, &m);
    ok(get(&m), "GETATTR");
    take(&m, 20);
    file_size = get64(&m);
}

// --- NFSv4.2

static uint32_t compound(struct message *m, uint32_t operations) {
    uint32_t xid = begin(m, NFS, 1);
    put(m, 0); // tag
    put(m, 2); // minor version
    put(m, operations);
    return xid;
}

static void sequence(struct message *m, struct connection *c, int slot) {
    put(m, SEQUENCE);
    put_bytes(m, c->session, 16);
    put(m, ++c->slots[slot].sequence);
    put(m, slot);
    put(m, depth - 1);
    put(m, 0);
}

static void result(struct message *m, uint32_t operation, const char *what) {
    if (get(m) != operation)
        die("%s is not answered in order", what);
    ok(get(m), what);
}

// Takes the status of the whole, and SEQUENCE's results.
static void results(struct message *m, const char *what) {
    ok(get(m), what);
    take(m, get(m));
    get(m);
}

static void sequenced(struct message *m, const char *what) {
    results(m, what);
    result(m, SEQUENCE, "SEQUENCE");
    take(m, 36);
}

static void channel(struct message *m) {
    put(m, 0);
    put(m, MAX_READ + 4096);
    put(m, MAX_READ + 4096);
    put(m, 512); // of a cached answer, which is not asked for: knfsd gives slots by it
    put(m, 16);
    put(m, depth);
    put(m, 0);
}

static void open_session(struct connection *c, int number) {
    struct message m;
    char owner[64];
    uint64_t verifier = now();
    snprintf(owner, sizeof owner, "load %d %d", getpid(), number);
    compound(&m, 1);
    put(&m, EXCHANGE_ID);
    put64(&m, verifier);
    put_opaque(&m, owner, strlen(owner));
    put(&m, 0);
    put(&m, 0); // no state protection
    put(&m, 0);
    call(c->socket, &m);
    results(&m, "EXCHANGE_ID");
    result(&m, EXCHANGE_ID, "EXCHANGE_ID");
    uint64_t client = get64(&m);
    uint32_t first = get(&m);

    compound(&m, 1);
    put(&m, CREATE_SESSION);
    put64(&m, client);
    put(&m, first);
    put(&m, 0);
    channel(&m);
    channel(&m);
    put(&m, 0x40000000);
    put(&m, 1); // callbacks without credentials, which nobody makes
    put(&m, 0);
    call(c->socket, &m);
    results(&m, "CREATE_SESSION");
    result(&m, CREATE_SESSION, "CREATE_SESSION");
    memcpy(c->session, take(&m, 16), 16);
    take(&m, 8 + 16);
    if (get(&m) < 16 || get(&m) < (uint32_t)depth)
        die("the session has fewer than %d slots", depth);

    compound(&m, 2);
    sequence(&m, c, 0);
    put(&m, RECLAIM_COMPLETE);
    put(&m, 0);
    call(c->socket, &m);
    sequenced(&m, "RECLAIM_COMPLETE");
}

static void find4(struct connection *c) {
    struct message m;
    char whole[CALL], *names[16];
    int count = 0;
    snprintf(whole, sizeof whole, "%s/%s", export, path);
    for (char *name = strtok(whole, "/"); name && count < 12; name = strtok(NULL, "/"))
        names[count++] = name;
    compound(&m, 4 + count);
    sequence(&m, c, 0);
    put(&m, PUTROOTFH);
    for (int i = 0; i < count; i++) {
        put(&m, LOOKUP);
        put_opaque(&m, names[i], strlen(names[i]));
    }
    put(&m, GETFH);
    put(&m, GETATTR);
    put(&m, 1);
    put(&m, 1 << 4); // size
    call(c->socket, &m);
    sequenced(&m, path);
    result(&m, PUTROOTFH, "PUTROOTFH");
    for (int i = 0; i < count; i++)
        result(&m, LOOKUP, names[i]);
    result(&m, GETFH, "GETFH");
    get_handle(&m);
    result(&m, GETATTR, "GETATTR");
    take(&m, 4UL * get(&m));
    get(&m);
    file_size = get64(&m);
}

static void open_file(struct connection *c) {
    struct message m;
    compound(&m, 3);
    sequence(&m, c, 0);
    put(&m, PUTFH);
    put_opaque(&m, handle, handle_length);
    put(&m, OPEN);
    put(&m, 0);
    put(&m, 0x401); // to read, without a delegation
    put(&m, 0);
    put64(&m, 0);
    put_opaque(&m, "load", 4);
    put(&m, 0);
    put(&m, 4); // CLAIM_FH
    call(c->socket, &m);
    sequenced(&m, "OPEN");
    result(&m, PUTFH, "PUTFH");
    result(&m, OPEN, "OPEN");
    memcpy(c->stateid, take(&m, 16), 16);
}

// --- the load

static uint64_t xorshift(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    return *state ^= *state << 17;
}

// Appends the next READ of a slot to `out`; false when there is none.
static int issue(struct connection *c, int number, struct message *m) {
    if (limit ? issued >= limit : now() >= deadline)
        return 0;
    struct slot *slot = &c->slots[number];
    uint64_t blocks = file_size / size;
    uint64_t offset = (randomly ? xorshift(&c->seed) : c->next++) % blocks * size;
    if (version == 3) {
        slot->xid = begin(m, NFS, 6);
        put_opaque(m, handle, handle_length);
    } else {
        slot->xid = compound(m, 3);
        sequence(m, c, number);
        put(m, PUTFH);
        put_opaque(m, handle, handle_length);
        put(m, READ);
        put_bytes(m, c->stateid, 16);
    }
    put64(m, offset);
    put(m, size);
    finish(m);
    issued++;
    c->in_flight++;
    slot->since = now();
    return 1;
}

// Takes the answer whose first bytes are in `head`; gives the slot that is free again.
static int answer(struct connection *c) {
    struct message *m = &c->head;
    uint32_t xid = accepted(m);
    int number = 0;
    while (number < depth && c->slots[number].xid != xid)
        number++;
    if (number == depth)
        die("an answer that nobody waits for");
    c->slots[number].xid = 0;
    if (version == 3) {
        ok(get(m), "READ");
        if (get(m))
            take(m, 84);
        get(m);
    } else {
        sequenced(m, "READ");
        result(m, PUTFH, "PUTFH");
        result(m, READ, "READ");
    }
    get(m); // end of file
    uint32_t length = get(m);
    if (length != size || c->record < m->at + length)
        die("READ gave %u bytes in %zu", length, c->record);
    if (answered == latency_room) {
        latency_room = latency_room ? latency_room * 2 : 1 << 16;
        latencies = realloc(latencies, latency_room * sizeof *latencies);
    }
    uint64_t took = now() - c->slots[number].since;
    latencies[answered++] = took < UINT32_MAX ? took : UINT32_MAX;
    c->operations++;
    c->in_flight--;
    return number;
}

// Takes what came in, and writes the calls that follow at once.
static void feed(struct connection *c, const unsigned char *bytes, size_t count) {
    static unsigned char out[MAX_DEPTH * CALL];
    size_t out_length = 0;
    struct message m;
    while (count) {
        if (c->marker_bytes < 4) {
            c->fragment = c->fragment << 8 | *bytes++;
            count--;
            if (++c->marker_bytes < 4)
                continue;
            c->last = c->fragment >> 31;
            c->fragment &= 0x7fffffff;
            if (c->record + c->fragment > size + HEAD)
                die("an answer of %zu bytes", c->record + c->fragment);
        }
        size_t n = count < c->fragment ? count : c->fragment;
        size_t kept = HEAD - c->head.length < n ? HEAD - c->head.length : n;
        memcpy(c->head.bytes + c->head.length, bytes, kept);
        c->head.length += kept;
        c->record += n;
        c->fragment -= n;
        bytes += n;
        count -= n;
        if (c->fragment)
            continue;
        c->marker_bytes = 0;
        if (!c->last)
            continue;
        int number = answer(c);
        c->record = c->head.length = c->head.at = 0;
        if (issue(c, number, &m)) {
            memcpy(out + out_length, m.bytes, m.length);
            out_length += m.length;
        }
    }
    if (out_length)
        send_all(c->socket, out, out_length);
}

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double percentile(double part) { return latencies[(size_t)(part * (answered - 1) + 0.5)] / 1e3; }

int main(int argc, char **argv) {
    int option, port, mount_port = 0, usage = 0;
    while ((option = getopt(argc, argv, "v:m:x:c:d:s:o:n:t:r:p:")) != -1)
        switch (option) {
        case 'v': version = atoi(optarg); break;
        case 'm': mount_port = atoi(optarg); break;
        case 'x': export = optarg; break;
        case 'c': connections = atoi(optarg); break;
        case 'd': depth = atoi(optarg); break;
        case 's': size = strtoull(optarg, NULL, 10); break;
        case 'o': randomly = !strcmp(optarg, "rand"); break;
        case 'n': limit = strtoull(optarg, NULL, 10); break;
        case 't': seconds = atof(optarg); break;
        case 'r': seed = strtoull(optarg, NULL, 10); break;
        case 'p': pause_seconds = atof(optarg); break;
        default: usage = 1;
        }
    if (usage || argc - optind != 3 || !inet_aton(argv[optind], &address) || (version != 3 && version != 4) ||
        connections < 1 || depth < 1 || depth > MAX_DEPTH || !size || size > MAX_READ || size % 4) {
        fprintf(stderr, "load [-v 3|4] [-m MOUNTPORT] [-x EXPORT] [-c CONNECTIONS] [-d DEPTH] [-s BYTES] [-o seq|rand] "
                        "[-n READS | -t SECONDS] [-r SEED] [-p SECONDS] ADDRESS PORT PATH\n");
        return 2;
    }
    port = atoi(argv[optind + 1]);
    path = argv[optind + 2];
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);

    struct connection *all = calloc(connections, sizeof *all);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < connections; i++) {
        struct connection *c = &all[i];
        c->socket = dial(port);
        if (version == 4)
            open_session(c, i);
        if (!i && version == 3)
            find3(c->socket, mount_port ? mount_port : port);
        else if (!i)
            find4(c);
        if (version == 4)
            open_file(c);
        c->seed = (seed + i) * 0x9e3779b97f4a7c15ULL | 1;
        c->next = file_size / size * i / connections;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->socket, &event))
            die("epoll: %s", strerror(errno));
    }
    if (file_size < size)
        die("%s has %llu bytes", argv[optind + 2], (unsigned long long)file_size);

    usleep(pause_seconds * 1e6);
    uint64_t start = now();
    deadline = start + seconds * 1e9;
    for (int number = 0; number < depth; number++)
        for (int i = 0; i < connections; i++) {
            struct message m;
            if (issue(&all[i], number, &m))
                send_all(all[i].socket, m.bytes, m.length);
        }
    static unsigned char bytes[256 << 10];
    while (answered < issued) {
        struct epoll_event events[256];
        int n = epoll_wait(epoll, events, 256, 20000);
        if (n <= 0)
            die("no answer: %s", n ? strerror(errno) : "20 seconds of silence");
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            ssize_t got = recv(c->socket, bytes, sizeof bytes, MSG_DONTWAIT);
            if (got <= 0)
                die("no answer: %s", got ? strerror(errno) : "the connection ended");
            feed(c, bytes, got);
        }
    }
    double elapsed = (now() - start) / 1e9;
    uint64_t least = UINT64_MAX, most = 0;
    for (int i = 0; i < connections; i++) {
        least = all[i].operations < least ? all[i].operations : least;
        most = all[i].operations > most ? all[i].operations : most;
    }
    qsort(latencies, answered, sizeof *latencies, ascending);
    printf("%.1f %.0f %.1f %.1f %.1f %llu %llu\n", answered * size / elapsed / 1e6, answered / elapsed, percentile(0.5),
           percentile(0.99), percentile(0.999), (unsigned long long)least, (unsigned long long)most);
    return 0;
}
