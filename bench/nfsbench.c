// nfsbench URL FILE BS DEPTH seq|rand TOTAL_MB: a pipelined NFSv3 read load over libnfs 4.
//
// Prints bytes and reads a second: "MB/s OPS/s". Random offsets are the same in every run.
// cc -O2 nfsbench.c -lnfs
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <nfsc/libnfs.h>

static struct nfs_context *nfs;
static struct nfsfh *file;
static uint64_t file_size, next_offset, received, issued, total, block, operations;
static int random_order, in_flight, failed;
static uint64_t seed = 88172645463325252ULL;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static uint64_t xorshift(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static void issue(void);

static void answered(int status, struct nfs_context *context, void *data, void *private) {
    (void)data;
    (void)private;
    in_flight--;
    if (status != (int)block) {
        if (!failed)
            fprintf(stderr, "read: %d %s\n", status, status < 0 ? nfs_get_error(context) : "bytes");
        failed = 1;
        return;
    }
    received += status;
    operations++;
    issue();
}

static void issue(void) {
    if (failed || issued >= total)
        return;
    uint64_t offset;
    if (random_order) {
        offset = xorshift() % (file_size / block) * block;
    } else {
        offset = next_offset;
        next_offset += block;
        if (next_offset + block > file_size)
            next_offset = 0;
    }
    issued += block;
    in_flight++;
    if (nfs_pread_async(nfs, file, offset, block, answered, NULL)) {
        fprintf(stderr, "read: %s\n", nfs_get_error(nfs));
        failed = 1;
        in_flight--;
    }
}

int main(int argc, char **argv) {
    if (argc != 7) {
        fprintf(stderr, "nfsbench URL FILE BS DEPTH seq|rand TOTAL_MB\n");
        return 2;
    }
    nfs = nfs_init_context();
    struct nfs_url *url = nfs_parse_url_dir(nfs, argv[1]);
    if (!url || nfs_mount(nfs, url->server, url->path)) {
        fprintf(stderr, "mount: %s\n", nfs_get_error(nfs));
        return 1;
    }
    struct nfs_stat_64 stat;
    if (nfs_open(nfs, argv[2], 0, &file) || nfs_fstat64(nfs, file, &stat)) {
        fprintf(stderr, "open %s: %s\n", argv[2], nfs_get_error(nfs));
        return 1;
    }
    file_size = stat.nfs_size;
    block = strtoull(argv[3], NULL, 10);
    random_order = !strcmp(argv[5], "rand");
    total = strtoull(argv[6], NULL, 10) << 20;
    if (!block || block > file_size || block > nfs_get_readmax(nfs)) {
        fprintf(stderr, "%s: size %llu, at most %llu a read\n", argv[2], (unsigned long long)file_size,
                (unsigned long long)nfs_get_readmax(nfs));
        return 1;
    }
    double start = now();
    for (int i = atoi(argv[4]); i > 0; i--)
        issue();
    while (in_flight && !failed) {
        struct pollfd p = {nfs_get_fd(nfs), nfs_which_events(nfs), 0};
        if (poll(&p, 1, 20000) <= 0 || nfs_service(nfs, p.revents) < 0) {
            fprintf(stderr, "no answer: %s\n", nfs_get_error(nfs));
            return 1;
        }
    }
    double elapsed = now() - start;
    if (failed)
        return 1;
    printf("%.1f %.0f\n", received / elapsed / 1e6, operations / elapsed);
    return 0;
}
