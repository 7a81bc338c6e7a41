// nfsmeta URL getattr|lookup|readdirplus|tree DIR DEPTH COUNT: a pipelined NFSv3 metadata load over libnfs 4.
//
// getattr and lookup make COUNT calls, cycling over the names of DIR; readdirplus walks DIR COUNT times.
// Prints operations (entries, for readdirplus) a second. tree walks DIR and what is below it, then reads every file
// of it whole, in one READ each; prints entries, seconds, files, seconds.
// cc -O2 nfsmeta.c -lnfs
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <nfsc/libnfs.h>
#include <nfsc/libnfs-raw.h>
#include <nfsc/libnfs-raw-nfs.h>

// Not in libnfs 4's headers: it returns the library's struct nfs_fh, a length and a pointer.
const void *nfs_get_rootfh(struct nfs_context *);
struct root_handle {
    int length;
    char *bytes;
};

struct name {
    char *name;
    nfs_fh3 handle;
};

static struct rpc_context *rpc;
static nfs_fh3 directory;
static struct name *names;
static long name_count, name_room, issued, total, answered, errors, in_flight, entries;
static int lookups, reads, keep_names, end_of_directory;
static nfs_fh3 *directories; // below DIR, that are to be walked
static long directory_count, directory_room;
static cookie3 cookie;
static char verifier[NFS3_COOKIEVERFSIZE];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static nfs_fh3 copy_of(nfs_fh3 from) {
    nfs_fh3 to;
    to.data.data_len = from.data.data_len;
    to.data.data_val = malloc(from.data.data_len);
    memcpy(to.data.data_val, from.data.data_val, from.data.data_len);
    return to;
}

static void issue(void);

static void on_answer(struct rpc_context *context, int status, void *data, void *private) {
    (void)context;
    (void)private;
    in_flight--;
    if (status != RPC_STATUS_SUCCESS || *(nfsstat3 *)data != NFS3_OK)
        errors++;
    else if (reads && !((READ3res *)data)->READ3res_u.resok.eof)
        errors++; // longer than one READ
    answered++;
    issue();
}

static void issue(void) {
    if (issued >= total)
        return;
    struct name *n = &names[issued++ % name_count];
    in_flight++;
    if (reads) {
        READ3args a = {n->handle, 0, 65536};
        rpc_nfs3_read_async(rpc, on_answer, &a, NULL);
    } else if (lookups) {
        LOOKUP3args a = {{directory, n->name}};
        rpc_nfs3_lookup_async(rpc, on_answer, &a, NULL);
    } else {
        GETATTR3args a = {n->handle};
        rpc_nfs3_getattr_async(rpc, on_answer, &a, NULL);
    }
}

static void on_entries(struct rpc_context *context, int status, void *data, void *private) {
    (void)context;
    (void)private;
    READDIRPLUS3res *result = data;
    in_flight--;
    if (status != RPC_STATUS_SUCCESS || result->status != NFS3_OK) {
        errors++;
        end_of_directory = 1;
        return;
    }
    READDIRPLUS3resok *ok = &result->READDIRPLUS3res_u.resok;
    memcpy(verifier, ok->cookieverf, sizeof verifier);
    for (entryplus3 *e = ok->reply.entries; e; e = e->nextentry) {
        cookie = e->cookie;
        entries++;
        if (!keep_names || !strcmp(e->name, ".") || !strcmp(e->name, "..") || !e->name_handle.handle_follows)
            continue;
        if (reads && e->name_attributes.attributes_follow &&
            e->name_attributes.post_op_attr_u.attributes.type == NF3DIR) {
            if (directory_count == directory_room) {
                directory_room = directory_room ? directory_room * 2 : 1024;
                directories = realloc(directories, directory_room * sizeof *directories);
            }
            directories[directory_count++] = copy_of(e->name_handle.post_op_fh3_u.handle);
            continue;
        }
        if (name_count == name_room) {
            name_room = name_room ? name_room * 2 : 1024;
            names = realloc(names, name_room * sizeof *names);
        }
        names[name_count].name = strdup(e->name);
        names[name_count++].handle = copy_of(e->name_handle.post_op_fh3_u.handle);
    }
    end_of_directory = ok->reply.eof;
}

static void on_lookup(struct rpc_context *context, int status, void *data, void *private) {
    (void)context;
    LOOKUP3res *result = data;
    in_flight--;
    if (status != RPC_STATUS_SUCCESS || result->status != NFS3_OK)
        errors++;
    else
        *(nfs_fh3 *)private = copy_of(result->LOOKUP3res_u.resok.object);
}

static void run(void) {
    while (in_flight) {
        struct pollfd p = {rpc_get_fd(rpc), rpc_which_events(rpc), 0};
        if (poll(&p, 1, 20000) <= 0 || rpc_service(rpc, p.revents) < 0) {
            fprintf(stderr, "no answer: %s\n", rpc_get_error(rpc));
            exit(1);
        }
    }
}

static void walk(void) {
    cookie = 0;
    memset(verifier, 0, sizeof verifier);
    end_of_directory = 0;
    while (!end_of_directory) {
        READDIRPLUS3args a = {.dir = directory, .cookie = cookie, .dircount = 65536, .maxcount = 262144};
        memcpy(a.cookieverf, verifier, sizeof verifier);
        in_flight++;
        rpc_nfs3_readdirplus_async(rpc, on_entries, &a, NULL);
        run();
    }
}

int main(int argc, char **argv) {
    if (argc != 6) {
        fprintf(stderr, "nfsmeta URL getattr|lookup|readdirplus|tree DIR DEPTH COUNT\n");
        return 2;
    }
    struct nfs_context *nfs = nfs_init_context();
    struct nfs_url *url = nfs_parse_url_dir(nfs, argv[1]);
    if (!url || nfs_mount(nfs, url->server, url->path)) {
        fprintf(stderr, "mount: %s\n", nfs_get_error(nfs));
        return 1;
    }
    rpc = nfs_get_rpc_context(nfs);
    const struct root_handle *root = nfs_get_rootfh(nfs);
    nfs_fh3 handle = {{root->length, root->bytes}};
    directory = copy_of(handle);
    for (char *part = strtok(argv[3], "/"); part; part = strtok(NULL, "/")) {
        LOOKUP3args a = {{directory, part}};
        in_flight++;
        rpc_nfs3_lookup_async(rpc, on_lookup, &a, &directory);
        run();
        if (errors) {
            fprintf(stderr, "no directory %s\n", part);
            return 1;
        }
    }
    int depth = atoi(argv[4]);
    double start, done;
    total = atol(argv[5]);
    if (!strcmp(argv[2], "readdirplus")) {
        start = now();
        for (long i = 0; i < total; i++)
            walk();
        done = entries;
    } else {
        lookups = !strcmp(argv[2], "lookup");
        reads = !strcmp(argv[2], "tree");
        keep_names = 1;
        start = now();
        for (walk(); directory_count;) {
            directory = directories[--directory_count];
            walk();
        }
        if (reads) {
            printf("%ld %.3f ", entries, now() - start);
            total = name_count;
        }
        if (!name_count) {
            fprintf(stderr, "no names with handles\n");
            return 1;
        }
        start = now();
        for (int i = 0; i < depth; i++)
            issue();
        run();
        done = answered;
    }
    double elapsed = now() - start;
    if (errors) {
        fprintf(stderr, "%ld errors\n", errors);
        return 1;
    }
    if (reads)
        printf("%.0f %.3f\n", done, elapsed);
    else
        printf("%.0f\n", done / elapsed);
    return 0;
}
