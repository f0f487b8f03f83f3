/* The load generator: many WebSocket clients in one thread on epoll, as cheap as they can be made, so that the server is
 * what is measured. It says how much CPU it used itself.
 *
 * All servers get the same load. An input carries a mark, a 32-bit number of the client's own; the server puts the mark of
 * the last applied input into the player's state. A client that finds its mark in a frame knows how long its input took
 * to become visible. While a mark is under way further inputs repeat it, so that it cannot be overwritten unseen.
 *
 *   load PROTOCOL CLIENTS CONNECTIONS_FILE PHASE...
 *
 * PROTOCOL: raw | gs (actions are quiet, as the others acknowledge nothing either) | gs-ack | sio | colyseus.
 * CONNECTIONS_FILE: one line per client: PORT, PATH and for gs KIND (game, match, watch), NAME, TOKEN; tabs between them.
 * PHASE: MODE:RATE:WARM_UP_SECONDS:SECONDS, one after another once everybody has joined. RATE: messages per second and
 * client, 0 in the modes that wait for the answer. MODE:
 *   idle      only listen
 *   play      inputs at the rate
 *   shout     an event to the whole room, at the rate
 *   say       the same where the server may collect it for the next frame
 *   relay     an event to the whole room as soon as one's own last one has come back
 *   pipeline  BATCH inputs in one write as soon as the last one of the batch before is visible (and acknowledged, if so)
 * Prints a JSON line at the start and at the end of each phase, after its warm-up; all counters go on from line to line,
 * except for the percentiles, which are the phase's own.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "msgpack.h"

enum protocol { RAW, GS, SIO, COLYSEUS };
enum mode { IDLE, PLAY, SHOUT, SAY, RELAY, PIPELINE };
enum stage { UNUSED, CONNECTING, UPGRADING, GREETING, JOINED };

enum {
    CONNECTING_MAX = 32, CHUNK = 1 << 18, BUCKETS = 100000 /* of 0.1 ms */, START_SECONDS_MAX = 120, PHASES_MAX = 8,
    BATCH = 48, ACK_EVERY = 16 /* of quiet actions so many are acknowledged together; the window is 64 */
};

struct phase {
    enum mode mode;
    double rate, warm_up, seconds;
};

struct client {
    int fd;
    enum stage stage;
    uint32_t seq, mark;    /* mark: 0 when none is under way */
    double sent_at;
    uint32_t channel, acked;
    int port;
    uint8_t *rest;         /* an incomplete message */
    size_t rest_size, rest_room;
    char *path, *kind, *name, *token;
};

static enum protocol protocol;
static enum mode mode;
static int quiet = 1, count, joined, connecting, epoll_fd;
static struct client *clients;
static int *order; /* in which the clients act */
static uint8_t chunk[CHUNK];
static uint64_t frames, messages, bytes, inputs, applied, events, acks, errors, refused, seen, blocked;
static uint32_t histogram[BUCKETS + 1];
static int measuring, actions_known, actions_steer = -1, actions_shout = -1, actions_say = -1;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void die(const char *format, ...) {
    va_list values;
    va_start(values, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, values);
    fputc('\n', stderr);
    va_end(values);
    exit(1);
}

static void fail(struct client *client, const char *why) {
    if (errors < 5) fprintf(stderr, "load: client %d: %s\n", (int)(client - clients), why);
    errors++;
    if (client->stage != JOINED) die("a client could not join: %s", why);
    close(client->fd);
    client->fd = -1;
    client->stage = UNUSED;
}

/* --- writing ---------------------------------------------------------------------------------------------------------- */
static void send_all(struct client *client, const void *data, size_t size) {
    ssize_t written = send(client->fd, data, size, MSG_NOSIGNAL);
    if (written == (ssize_t)size) return;
    if (written < 0 && errno == EAGAIN && protocol != GS) { blocked++; return; }
    /* Part of a frame is out, or a numbered action is not: the stream would be broken. What is sent is tiny, so this means
     * that the server does not read at all. */
    fail(client, "the server takes no more data");
}

static size_t put_frame(uint8_t *to, int opcode, const void *payload, size_t size) {
    size_t at = 0;
    to[at++] = (uint8_t)(0x80 | opcode);
    if (size < 126) to[at++] = (uint8_t)(0x80 | size);
    else {
        to[at++] = 0xFE;
        to[at++] = (uint8_t)(size >> 8);
        to[at++] = (uint8_t)size;
    }
    memset(to + at, 0, 4); /* a mask is demanded; zeros change nothing */
    memcpy(to + at + 4, payload, size);
    return at + 4 + size;
}

static void send_frame(struct client *client, int opcode, const void *payload, size_t size) {
    uint8_t frame[4096];
    if (size > sizeof frame - 14) die("a message of %zu bytes is more than this program sends", size);
    send_all(client, frame, put_frame(frame, opcode, payload, size));
}

/* One message as a whole frame. */
static size_t put_message(uint8_t *to, struct client *client, uint32_t mark) {
    uint8_t body[128];
    size_t size = 0;
    int event = mode == SHOUT || mode == RELAY || mode == SAY;
    double turn = (double)(client->seq % 20) / 10 - 1;
    client->seq++;
    if (protocol == SIO) {
        if (event) size = (size_t)sprintf((char *)body, "42[\"shout\",%u]", mark);
        else size = (size_t)sprintf((char *)body, "42[\"steer\",%.1f,%.1f,%u]", turn, 1 - turn, mark);
        return put_frame(to, 1, body, size);
    }
    if (protocol == GS) { /* [3, channel, seq, number, [arguments], flags] */
        int number = mode == SAY ? actions_say : event ? actions_shout : actions_steer;
        if (number < 0) die("the game has no such action");
        body[size++] = 0x96, body[size++] = 3;
        size += put_u32(body + size, client->channel);
        size += put_u32(body + size, client->seq);
        body[size++] = (uint8_t)number;
        body[size++] = event ? 0x91 : 0x93;
    } else if (protocol == RAW) { /* [kind, arguments…] */
        body[size++] = event ? 0x92 : 0x94;
        body[size++] = (uint8_t)event;
    } else { /* Colyseus: code, message type, then the message */
        body[size++] = 13;
        size += put_text(body + size, event ? "shout" : "steer");
        if (!event) body[size++] = 0x93;
    }
    if (!event) {
        size += put_double(body + size, turn);
        size += put_double(body + size, 1 - turn);
    }
    size += put_u32(body + size, mark);
    if (protocol == GS) body[size++] = (uint8_t)quiet;
    return put_frame(to, 2, body, size);
}

/* The high bit makes every encoding use its four-byte form. */
static const uint32_t NO_MARK = 0x80000000u;

static void act(struct client *client, double at) {
    uint8_t out[BATCH * 128];
    size_t size = 0;
    int batch = mode == PIPELINE ? BATCH : 1;
    if (client->mark == 0) {
        client->mark = NO_MARK | ((uint32_t)(client - clients) << 14 & 0x7FFFFFFFu) | ((client->seq + 1) & 0x3FFF);
        client->sent_at = at;
    }
    for (int i = 1; i <= batch; i++) size += put_message(out + size, client, i == batch ? client->mark : NO_MARK);
    send_all(client, out, size);
    if (measuring) inputs += (uint64_t)batch;
}

static int acts(const struct client *client) { return client->stage == JOINED && client->kind[0] != 'w'; }

/* In the modes that wait for the answer: the next one, if it is there. */
static void go_on(struct client *client) {
    if ((mode != RELAY && mode != PIPELINE) || client->mark != 0 || !acts(client)) return;
    if (protocol == GS && client->acked + ACK_EVERY <= client->seq) return;
    act(client, now());
}

/* --- reading ---------------------------------------------------------------------------------------------------------- */
static void look_for_mark(struct client *client, const uint8_t *payload, size_t size) {
    char needle[16];
    size_t length = 4;
    uint32_t mark = client->mark;
    if (mark == 0) return;
    if (protocol == SIO) length = (size_t)sprintf(needle, "%u", mark);
    else if (protocol == COLYSEUS && (mode == PLAY || mode == PIPELINE)) memcpy(needle, &mark, 4); /* schema: little endian */
    else for (int i = 0; i < 4; i++) needle[i] = (char)(mark >> (24 - 8 * i));
    if (memmem(payload, size, needle, length) == NULL) return;
    if (measuring) {
        double took = (now() - client->sent_at) * 1e4;
        histogram[took < BUCKETS ? (int)took : BUCKETS]++;
        seen++;
        applied += mode == PIPELINE ? BATCH : 1;
    }
    client->mark = 0;
    go_on(client);
}

static void enter(struct client *client) {
    client->stage = JOINED;
    joined++, connecting--;
}

static void learn_actions(const uint8_t *payload, size_t size) {
    actions_steer = find_action(payload, size, "steer");
    actions_shout = find_action(payload, size, "shout");
    actions_say = find_action(payload, size, "say");
    actions_known = 1;
}

static void on_ack(struct client *client, const uint8_t *payload) { /* [6, channel, seq, version, status, result] */
    const uint8_t *seq = skip(payload + 2), *status = skip(skip(seq)), *code = status + 2; /* of [code, message, …] */
    acks += (uint64_t)measuring;
    if (*status != 0) {
        if (refused++ < 5) fprintf(stderr, "load: an action was refused: %.*s\n", code[0] & 0x1F, (const char *)code + 1);
        return;
    }
    client->acked = read_uint(seq);
    go_on(client);
}

static void on_gs(struct client *client, const uint8_t *payload, size_t size) {
    uint8_t body[2048];
    size_t length = 0;
    int watch = client->kind[0] == 'w';
    switch (payload[1]) {
    case 1: /* welcome: join */
        body[length++] = watch ? 0x95 : 0x94, body[length++] = 2, body[length++] = 1;
        length += put_text(body + length, watch ? "match" : client->kind);
        length += put_text(body + length, client->name);
        if (watch) {
            body[length++] = 0x81;
            length += put_text(body + length, "spectate");
            body[length++] = 0xC3;
        }
        send_frame(client, 2, body, length);
        return;
    case 2:
        client->channel = read_uint(payload + 3);
        if (!actions_known && !watch) learn_actions(payload, size);
        enter(client);
        return;
    case 3: /* [3, channel, epoch, version, time_ms, applied, ops, events] */
        frames += (uint64_t)measuring;
        if (measuring && mode == SAY) events += array_length(skip_fields(payload + 1, 7));
        if (mode == PLAY || mode == PIPELINE || mode == SAY) look_for_mark(client, payload, size);
        return;
    case 5: /* [5, channel, epoch, version, events]: one message may carry several events, they count one by one */
        if (measuring) events += array_length(skip_fields(payload + 1, 4));
        look_for_mark(client, payload, size);
        return;
    case 6:
        on_ack(client, payload);
        return;
    case 7: { /* [7, request, code, message, retryable] */
        const uint8_t *code = skip(payload + 2);
        char why[64];
        snprintf(why, sizeof why, "the server sent the error %.*s", (int)(skip(code) - code - 1) & 0x1F, (const char *)code + 1);
        fail(client, why);
        return;
    }
    case 10:
        fail(client, "the server closed the channel");
    }
}

static void on_message(struct client *client, int opcode, const uint8_t *payload, size_t size) {
    if (measuring) messages++, bytes += size;
    if (opcode == 9) { send_frame(client, 10, payload, size); return; }
    if (opcode == 8) { fail(client, "closed by the server"); return; }
    if (size < 1) return;
    if (protocol == GS) { if (size >= 2) on_gs(client, payload, size); return; }
    if (protocol == RAW) {
        int event = size > 1 && payload[1] == 1;
        if (measuring) { if (event) events++; else frames++; }
        if (event || mode == PLAY || mode == PIPELINE) look_for_mark(client, payload, size);
    } else if (protocol == COLYSEUS) {
        if (payload[0] == 10) { uint8_t yes = 10; send_frame(client, 2, &yes, 1); }
        else if (payload[0] == 14) { if (client->stage != JOINED) enter(client); }
        else if (payload[0] == 15) {
            frames += (uint64_t)measuring;
            if (mode == PLAY || mode == PIPELINE) look_for_mark(client, payload, size);
        } else if (payload[0] == 13) {
            events += (uint64_t)measuring;
            look_for_mark(client, payload, size);
        } else if (payload[0] == 11) fail(client, "the server sent an error");
    } else { /* engine.io: 0 open, 2 ping, 4 message; socket.io: 40 connected, 42 event */
        if (payload[0] == '0') send_frame(client, 1, "40", 2);
        else if (payload[0] == '2') send_frame(client, 1, "3", 1);
        else if (size > 1 && payload[0] == '4' && payload[1] == '0') enter(client);
        else if (size > 12 && payload[1] == '2') {
            int event = memcmp(payload, "42[\"shout\"", 10) == 0;
            if (measuring) { if (event) events++; else frames++; }
            if (event || mode == PLAY || mode == PIPELINE) look_for_mark(client, payload, size);
        }
    }
}

/* Gives back how many bytes of `data` were used. */
static size_t cut(struct client *client, const uint8_t *data, size_t size) {
    size_t at = 0;
    if (client->stage == UPGRADING) {
        const uint8_t *end = memmem(data, size, "\r\n\r\n", 4);
        if (end == NULL) return 0;
        if (size < 12 || memcmp(data + 9, "101", 3) != 0) die("the upgrade was refused: %.60s", (const char *)data);
        at = (size_t)(end - data) + 4;
        client->stage = GREETING;
        if (protocol == RAW) enter(client);
        if (protocol == GS) { /* [1, 1, token] */
            uint8_t body[2048] = {0x93, 1, 1};
            send_frame(client, 2, body, 3 + put_text(body + 3, client->token));
        }
    }
    while (size - at >= 2 && client->fd >= 0) {
        size_t start = at + 2;
        uint64_t length = data[at + 1] & 0x7F;
        if (length >= 126) {
            int extra = length == 126 ? 2 : 8;
            start += (size_t)extra;
            if (size < start) break;
            length = 0;
            for (int i = extra; i > 0; i--) length = length << 8 | data[start - (size_t)i];
        }
        if (size - start < length) break;
        on_message(client, data[at] & 0x0F, data + start, length);
        at = start + length;
    }
    return at;
}

static void keep(struct client *client, const uint8_t *data, size_t size) {
    if (size > client->rest_room) {
        client->rest_room = size * 2;
        client->rest = realloc(client->rest, client->rest_room);
        if (client->rest == NULL) die("out of memory");
    }
    memmove(client->rest, data, size);
    client->rest_size = size;
}

static void on_readable(struct client *client) {
    size_t before = client->rest_size;
    if (before > CHUNK / 2) die("a message is too large");
    if (before) memcpy(chunk, client->rest, before);
    ssize_t got = recv(client->fd, chunk + before, CHUNK - before, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) { fail(client, got < 0 ? strerror(errno) : "connection ended"); return; }
    size_t size = before + (size_t)got, used = cut(client, chunk, size);
    client->rest_size = 0;
    if (used < size && client->fd >= 0) keep(client, chunk + used, size - used);
}

/* --- connecting ------------------------------------------------------------------------------------------------------- */
static void start_connecting(struct client *client) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)client->port)};
    /* One loopback address has 28,000 ports to offer, fewer while those of the run before are still kept: every run and
     * every 10,000 clients come from another one. */
    struct sockaddr_in source = {.sin_family = AF_INET};
    uint32_t run = (uint32_t)getpid() & 0x3FFF, block = (uint32_t)(client - clients) / 10000;
    source.sin_addr.s_addr = htonl(0x7F010001u + (run << 8) + (block & 0x3F));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (client->fd < 0) die("socket: %s", strerror(errno));
    int yes = 1;
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    setsockopt(client->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
    if (bind(client->fd, (struct sockaddr *)&source, sizeof source) != 0) die("bind: %s", strerror(errno));
    if (connect(client->fd, (struct sockaddr *)&address, sizeof address) != 0 && errno != EINPROGRESS)
        die("connect: %s", strerror(errno));
    client->stage = CONNECTING;
    connecting++;
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = client};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, client->fd, &event);
}

static void on_connected(struct client *client) {
    int problem = 0;
    socklen_t length = sizeof problem;
    getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &problem, &length);
    if (problem) die("connect: %s", strerror(problem));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, client->fd, &event);
    client->stage = UPGRADING;
    char request[2048];
    int size = snprintf(request, sizeof request,
        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n%s\r\n",
        client->path, client->port, protocol == GS ? "Sec-WebSocket-Protocol: gameserver.v1\r\n" : "");
    send_all(client, request, (size_t)size);
}

static void read_connections(const char *name) {
    FILE *file = fopen(name, "r");
    char line[4096];
    if (file == NULL) die("%s: %s", name, strerror(errno));
    for (int i = 0; i < count; i++) {
        if (fgets(line, sizeof line, file) == NULL) die("%s has only %d lines", name, i);
        line[strcspn(line, "\n")] = 0;
        char *rest = line, *fields[5];
        for (int field = 0; field < 5; field++) {
            char *text = strsep(&rest, "\t");
            fields[field] = strdup(text ? text : "");
        }
        clients[i].port = atoi(fields[0]);
        clients[i].path = fields[1], clients[i].kind = fields[2];
        clients[i].name = fields[3], clients[i].token = fields[4];
        clients[i].fd = -1;
    }
    fclose(file);
}

static struct phase read_phase(const char *text) {
    static const char *const names[] = {"idle", "play", "shout", "say", "relay", "pipeline"};
    struct phase phase = {0};
    char name[16];
    if (sscanf(text, "%15[a-z]:%lf:%lf:%lf", name, &phase.rate, &phase.warm_up, &phase.seconds) != 4)
        die("%s: expected MODE:RATE:WARM_UP_SECONDS:SECONDS", text);
    for (int i = 0; i < 6; i++)
        if (!strcmp(name, names[i])) { phase.mode = (enum mode)i; return phase; }
    die("there is no mode %s", name);
    return phase;
}

static double percentile(double share) {
    uint64_t total = 0, sum = 0;
    for (int i = 0; i <= BUCKETS; i++) total += histogram[i];
    for (int i = 0; i <= BUCKETS; i++) {
        sum += histogram[i];
        if (total && (double)sum > (double)total * share) return i / 10.0;
    }
    return 0;
}

static void report(const char *what) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double at = now(), cpu = (double)used.ru_utime.tv_sec + (double)used.ru_stime.tv_sec
                           + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6;
    int waiting = 0; /* clients whose mark has not come back for a second */
    for (int i = 0; i < count; i++) waiting += clients[i].mark != 0 && at - clients[i].sent_at > 1;
    printf("{\"what\": \"%s\", \"at\": %.6f, \"cpu_seconds\": %.6f, \"clients\": %d, \"frames\": %lu, \"messages\": %lu, "
           "\"bytes\": %lu, \"inputs\": %lu, \"applied\": %lu, \"events\": %lu, \"acks\": %lu, \"errors\": %lu, \"refused\": %lu, "
           "\"blocked\": %lu, \"seen\": %lu, \"waiting\": %d, \"p50_ms\": %.1f, \"p99_ms\": %.1f}\n",
           what, at, cpu, joined, frames, messages, bytes, inputs, applied, events, acks, errors, refused, blocked, seen, waiting,
           percentile(0.5), percentile(0.99));
    fflush(stdout);
}

static void shuffle(void) {
    static uint32_t dice = 2463534242u; /* xorshift: the same order for every server */
    for (int i = count - 1; i > 0; i--) {
        dice ^= dice << 13, dice ^= dice >> 17, dice ^= dice << 5;
        int other = (int)(dice % (uint32_t)(i + 1)), kept = order[i];
        order[i] = order[other], order[other] = kept;
    }
}

/* Inputs are spread evenly over time; in each turn the clients come in another order, or they would keep in step with the
 * ticks of their rooms, and their latency would be an accident of when they joined. */
static void act_when_due(double at, double began, double rate, uint64_t *done) {
    uint64_t due = (uint64_t)((at - began) * rate * count);
    if (due - *done > (uint64_t)count) *done = due - (uint64_t)count; /* never a burst after a stall */
    for (; *done < due; ++*done) {
        if (*done % (uint64_t)count == 0) shuffle();
        struct client *client = &clients[order[*done % (uint64_t)count]];
        if (acts(client)) act(client, at);
    }
}

static void begin(const struct phase *phase) {
    mode = phase->mode;
    memset(histogram, 0, sizeof histogram);
    for (int i = 0; i < count; i++) {
        clients[i].mark = 0;
        go_on(&clients[i]);
    }
}

int main(int argc, char **argv) {
    struct phase phases[PHASES_MAX];
    int phases_count = argc - 4, phase = -1;
    if (argc < 5 || phases_count > PHASES_MAX) die("PROTOCOL CLIENTS CONNECTIONS_FILE PHASE...");
    quiet = strcmp(argv[1], "gs-ack") != 0;
    protocol = !strncmp(argv[1], "gs", 2) ? GS : !strcmp(argv[1], "sio") ? SIO : !strcmp(argv[1], "colyseus") ? COLYSEUS : RAW;
    count = atoi(argv[2]);
    for (int i = 0; i < phases_count; i++) phases[i] = read_phase(argv[4 + i]);
    clients = calloc((size_t)count, sizeof *clients);
    order = calloc((size_t)count, sizeof *order);
    for (int i = 0; i < count; i++) order[i] = i;
    read_connections(argv[3]);
    epoll_fd = epoll_create1(0);

    struct epoll_event ready[512];
    int next = 0;
    double launched = now(), began = 0;
    uint64_t done = 0;
    for (;;) {
        while (next < count && connecting < CONNECTING_MAX) start_connecting(&clients[next++]);
        double at = now();
        if (joined < count) {
            if (at - launched > START_SECONDS_MAX) die("only %d of %d clients joined", joined, count);
        } else if (phase < 0 || (measuring && at >= began + phases[phase].warm_up + phases[phase].seconds)) {
            if (phase >= 0) report("end");
            measuring = 0, done = 0, began = at;
            if (++phase == phases_count) return errors || refused ? 1 : 0;
            begin(&phases[phase]);
        } else if (!measuring && at >= began + phases[phase].warm_up) {
            report("start");
            measuring = 1;
        }
        int wait_ms = 10;
        if (phase >= 0 && phases[phase].rate > 0) {
            act_when_due(at, began, phases[phase].rate, &done);
            wait_ms = 1;
        }
        int events_count = epoll_wait(epoll_fd, ready, 512, wait_ms);
        for (int i = 0; i < events_count; i++) {
            struct client *client = ready[i].data.ptr;
            if (client->fd < 0) continue;
            if (client->stage == CONNECTING) on_connected(client);
            else on_readable(client);
        }
    }
}
