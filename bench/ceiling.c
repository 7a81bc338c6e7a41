// ceiling PORT: answers NFSv3 READs of one file of 1 GiB from constants on 127.0.0.1: what client and
// loopback allow at most. MOUNT answers on the same port. For benchmarks alone: it trusts its client.
// cc -O2 -pthread ceiling.c
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { MAX_RECORD = 1 << 21, MAX_READ = 1 << 20 };
static const uint64_t FILE_SIZE = 1ULL << 30;
static char *payload;

static int receive(int socket, void *to, size_t length) {
    char *p = to;
    while (length) {
        ssize_t n = read(socket, p, length);
        if (n <= 0)
            return -1;
        p += n;
        length -= n;
    }
    return 0;
}

static uint32_t *put(uint32_t *out, uint32_t value) {
    *out = htonl(value);
    return out + 1;
}

static uint32_t *put64(uint32_t *out, uint64_t value) { return put(put(out, value >> 32), value); }

static uint32_t *attributes(uint32_t *out, int directory) {
    out = put(out, directory ? 2 : 1);
    out = put(out, 0755);
    out = put(out, 1);
    out = put64(out, 0); // uid, gid
    out = put64(out, directory ? 4096 : FILE_SIZE);
    out = put64(out, directory ? 4096 : FILE_SIZE);
    out = put64(out, 0);
    out = put64(out, 1);
    out = put64(out, directory ? 1 : 2);
    for (int i = 0; i < 6; i++)
        out = put(out, 1);
    return out;
}

static void *serve(void *argument) {
    int socket = (long)argument, one = 1;
    char *record = malloc(MAX_RECORD);
    uint32_t length;
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    while (!receive(socket, &length, 4)) {
        length = ntohl(length) & 0x7fffffff;
        if (length > MAX_RECORD || receive(socket, record, length))
            break;
        uint32_t *call = (uint32_t *)record;
        uint32_t program = ntohl(call[3]), procedure = ntohl(call[5]);
        uint32_t *args = call + 8 + (ntohl(call[7]) + 3) / 4; // behind the credential
        args += 2 + (ntohl(args[1]) + 3) / 4;                 // and the verifier
        uint32_t reply[256], *out = reply + 1;
        size_t data = 0;
        *out++ = call[0];
        out = put(out, 1); // a reply, accepted, no verifier, success
        for (int i = 0; i < 4; i++)
            out = put(out, 0);
        if (program == 100005) {
            if (procedure == 1) { // MNT: a handle that says 1, and AUTH_SYS
                out = put(put(out, 0), 8);
                out = put64(out, 1);
                out = put(put(out, 1), 1);
            } else if (procedure == 5) {
                out = put(out, 0);
            }
        } else {
            int directory = ntohl(args[2]) == 1;
            uint32_t *rest = args + 1 + (ntohl(args[0]) + 3) / 4;
            switch (procedure) {
            case 0:
                break;
            case 1: // GETATTR
                out = attributes(put(out, 0), directory);
                break;
            case 3: // LOOKUP: every name is the file
                out = put64(put(put(out, 0), 8), 2);
                out = attributes(put(out, 1), 0);
                out = attributes(put(out, 1), 1);
                break;
            case 4: // ACCESS: all that is asked
                out = attributes(put(put(out, 0), 1), directory);
                *out++ = rest[0];
                break;
            case 6: { // READ
                uint64_t offset = (uint64_t)ntohl(rest[0]) << 32 | ntohl(rest[1]);
                data = ntohl(rest[2]);
                if (data > MAX_READ)
                    data = MAX_READ;
                if (offset >= FILE_SIZE)
                    data = 0;
                else if (offset + data > FILE_SIZE)
                    data = FILE_SIZE - offset;
                out = attributes(put(put(out, 0), 1), 0);
                out = put(out, data);
                out = put(out, offset + data >= FILE_SIZE);
                out = put(out, data);
                break;
            }
            case 19: // FSINFO
                out = attributes(put(put(out, 0), 1), 1);
                for (int i = 0; i < 2; i++)
                    out = put(put(put(out, MAX_READ), MAX_READ), 4096);
                out = put64(put(out, 65536), 1ULL << 50);
                out = put(put(put(out, 0), 1), 27);
                break;
            default:
                out = put(out, 10004); // NFS3ERR_NOTSUPP
            }
        }
        size_t head = (char *)out - (char *)(reply + 1);
        reply[0] = htonl(0x80000000 | (head + data));
        struct iovec parts[2] = {{reply, head + 4}, {payload, data}};
        for (int i = 0; i < 2;) {
            ssize_t n = writev(socket, parts + i, 2 - i);
            if (n < 0)
                goto out;
            while (i < 2 && n >= (ssize_t)parts[i].iov_len)
                n -= parts[i++].iov_len;
            if (i < 2) {
                parts[i].iov_base = (char *)parts[i].iov_base + n;
                parts[i].iov_len -= n;
            }
        }
    }
out:
    close(socket);
    free(record);
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "ceiling PORT\n");
        return 2;
    }
    payload = malloc(MAX_READ);
    memset(payload, 7, MAX_READ);
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (void *)&address, sizeof address) || listen(listener, 64)) {
        perror("listen");
        return 1;
    }
    for (;;) {
        long connection = accept(listener, NULL, NULL);
        pthread_t thread;
        if (connection >= 0 && !pthread_create(&thread, NULL, serve, (void *)connection))
            pthread_detach(thread);
    }
}
