// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * What one packet costs in steer: median nanoseconds over windows of 2^20 packets, beside the floor in the same run.
 * Figures are gross: about 9 ns of them are the harness and the kernel's test loop.
 *
 *   bench FOLDER_OF_BENCH_OBJECTS STEER_OBJECT [CPU [WINDOWS]]     JSON on stdout
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "harness.h"
#include "verdict.h"
#include "flow_hash.h"

#define SERVERS 100
#define PORT 80
#define FLAG_SYN 2
#define FLAG_ACK 16

static volatile struct bench_shared *shared;
static int harness_fd, target_fd, verdicts_fd, cpus;
static const uint32_t vip4_address = 0x0a4d0064; /* 10.77.0.100 */
static const uint8_t vip6_address[16] = { 0xfd, 0x77, [14] = 1, [15] = 0 };

static void check(int failed, const char *what)
{
	if (!failed)
		return;
	fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* ---- frames -------------------------------------------------------------------------------------------------------- */

static void put_tcp(uint8_t *tcp, int flags)
{
	tcp[2] = PORT >> 8;
	tcp[3] = PORT & 0xff;
	tcp[7] = 1;
	tcp[12] = 0x50;
	tcp[13] = flags;
	tcp[14] = tcp[15] = 0xff;
}

static uint16_t checksum(const uint8_t *bytes, int length)
{
	uint32_t sum = 0;

	for (int i = 0; i < length; i += 2)
		sum += bytes[i] << 8 | bytes[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static void make_frame(uint8_t *frame, int ipv6, int flags)
{
	static const uint8_t macs[12] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2 };
	uint8_t *ip = frame + 14;

	memset(frame, 0, BENCH_FRAME);
	memcpy(frame, macs, 12);
	if (ipv6) {
		memcpy(frame + 12, "\x86\xdd", 2);
		ip[0] = 0x60;
		ip[5] = BENCH_FRAME - 54;
		ip[6] = IPPROTO_TCP;
		ip[7] = 64;
		ip[8] = 0xfd;
		memcpy(ip + 24, vip6_address, 16);
		put_tcp(ip + 40, flags);
		return;
	}
	memcpy(frame + 12, "\x08\x00", 2);
	ip[0] = 0x45;
	ip[3] = BENCH_FRAME - 14;
	ip[8] = 64;
	ip[9] = IPPROTO_TCP;
	memcpy(ip + 16, &(uint32_t){ htonl(vip4_address) }, 4);
	uint16_t sum = checksum(ip, 20);
	ip[10] = sum >> 8;
	ip[11] = sum & 0xff;
	put_tcp(ip + 20, flags);
}

/* ---- programs ------------------------------------------------------------------------------------------------------ */

static struct bpf_object *open_object(const char *folder, const char *name)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	struct bpf_object *object = bpf_object__open(path);
	check(!object, path);
	return object;
}

static int program_fd(struct bpf_object *object, const char *name)
{
	struct bpf_program *program = bpf_object__find_program_by_name(object, name);

	check(!program, name);
	return bpf_program__fd(program);
}

static int map_fd(struct bpf_object *object, const char *name)
{
	int fd = bpf_object__find_map_fd_by_name(object, name);

	check(fd < 0, name);
	return fd;
}

static void load_harness(const char *folder)
{
	struct bpf_object *object = open_object(folder, "harness.bpf.o");
	struct bpf_map *map;
	int bss = -1;

	check(bpf_object__load(object), "load harness");
	bpf_object__for_each_map(map, object) if (strstr(bpf_map__name(map), ".bss")) bss = bpf_map__fd(map);
	shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, bss, 0);
	check(shared == MAP_FAILED, "map the harness' memory");
	harness_fd = program_fd(object, "harness");
	target_fd = map_fd(object, "target");
}

/* A `const volatile` of steer.bpf.c, found by its name. */
static void set_rodata(struct bpf_object *object, const char *name, const void *value, size_t size)
{
	const struct btf *btf = bpf_object__btf(object);
	const struct btf_type *section = btf__type_by_id(btf, btf__find_by_name_kind(btf, ".rodata", BTF_KIND_DATASEC));
	const struct btf_var_secinfo *var = btf_var_secinfos(section);
	struct bpf_map *map = bpf_object__find_map_by_name(object, ".rodata");
	size_t length;
	const void *initial = bpf_map__initial_value(map, &length);
	char *data = malloc(length);

	memcpy(data, initial, length);
	errno = ENOENT;
	for (int i = 0; i < btf_vlen(section); i++, var++) {
		if (strcmp(btf__name_by_offset(btf, btf__type_by_id(btf, var->type)->name_off), name) || size > var->size)
			continue;
		memcpy(data + var->offset, value, size);
		errno = 0;
	}
	check(errno, name);
	check(bpf_map__set_initial_value(map, data, length), name);
	free(data);
}

static uint64_t vip_seed(const uint8_t address[16])
{
	uint64_t words[2];

	memcpy(words, address, 16);
	return hash_mix(hash_mix(BATON_HASH_SEED, words[0]), words[1]);
}

static void fill_steer(struct bpf_object *object)
{
	int servers = map_fd(object, "servers"), services = map_fd(object, "services"), maglev = map_fd(object, "maglev");

	for (uint32_t slot = 1; slot <= SERVERS; slot++) {
		struct baton_server server = { .mac = { 2, 0, 0, 1, 0, slot }, .state = BATON_SERVER_UP, .generation = 1 };

		check(bpf_map_update_elem(servers, &slot, &server, 0), "servers");
	}
	for (uint32_t i = 0; i < BATON_MAGLEV_ELEMENTS; i++) {
		struct baton_maglev element = { .main = { 1 + i % SERVERS, 1 + (i + 7) % SERVERS }, .heir = { 1, 1 } };

		check(bpf_map_update_elem(maglev, &i, &element, 0), "maglev");
	}
	struct baton_service service = { .port = htons(PORT), .transport = IPPROTO_TCP };
	check(bpf_map_update_elem(services, &service, &(uint32_t){ 1 }, 0), "services");
}

static int load_steer(const char *path)
{
	static const uint8_t mac[6] = { 2, 0, 0, 0, 0, 1 };
	uint8_t mapped[16] = { [10] = 0xff, [11] = 0xff };
	struct bpf_object *object = bpf_object__open(path);

	check(!object, path);
	memcpy(mapped + 12, &(uint32_t){ htonl(vip4_address) }, 4);
	set_rodata(object, "own_mac", mac, 6);
	set_rodata(object, "vip4_count", &(uint32_t){ 1 }, 4);
	set_rodata(object, "vip6_count", &(uint32_t){ 1 }, 4);
	set_rodata(object, "vip4", mapped + 12, 4);
	set_rodata(object, "vip6", vip6_address, 16);
	set_rodata(object, "vip4_seed", &(uint64_t){ vip_seed(mapped) }, 8);
	set_rodata(object, "vip6_seed", &(uint64_t){ vip_seed(vip6_address) }, 8);
	check(bpf_object__load(object), "load steer");
	fill_steer(object);
	verdicts_fd = map_fd(object, "verdicts");
	return program_fd(object, "steer");
}

/* ---- measuring ----------------------------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static uint32_t run(uint64_t packets)
{
	static uint8_t in[BENCH_FRAME], out[2048];
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = in, .data_size_in = BENCH_FRAME, .data_out = out,
		    .data_size_out = sizeof(out), .repeat = (int)packets);

	memcpy(in, (const void *)shared->frame, BENCH_FRAME);
	check(bpf_prog_test_run_opts(harness_fd, &options), "test run");
	return options.retval;
}

static void read_verdicts(uint64_t sum[32])
{
	uint64_t values[256][32];

	memset(sum, 0, 32 * sizeof(*sum));
	check(cpus > 256 || bpf_map_lookup_elem(verdicts_fd, &(uint32_t){ 0 }, values), "verdicts");
	for (int cpu = 0; cpu < cpus; cpu++)
		for (int i = 0; i < 32; i++)
			sum[i] += values[cpu][i];
}

/* One line of JSON. `warm`: every flow is seen once before. The client's range makes flows new or known. */
static void measure(const char *name, int program, int ipv6, int flags, int log2_flows, uint32_t client, int warm, int windows)
{
	static int lines;
	uint64_t before[32], after[32];
	double ns[BENCH_TIMES];
	uint8_t frame[BENCH_FRAME];
	int seen = -1;

	check(bpf_map_update_elem(target_fd, &(uint32_t){ 0 }, &program, 0), "target");
	make_frame(frame, ipv6, flags);
	memcpy((void *)shared->frame, frame, BENCH_FRAME);
	shared->ipv6 = ipv6;
	shared->client = client;
	shared->mask = (1u << log2_flows) - 1;
	shared->count = 0;
	if (warm)
		run(BENCH_WINDOW);
	shared->count = 0;
	read_verdicts(before);
	uint32_t action = run((uint64_t)windows * BENCH_WINDOW + 1);
	read_verdicts(after);
	for (int i = 0; i < windows; i++)
		ns[i] = (double)(shared->time_ns[i + 1] - shared->time_ns[i]) / BENCH_WINDOW;
	qsort(ns, windows, sizeof(*ns), by_value);
	for (int i = 0; i < 32; i++)
		if (after[i] - before[i] > (seen < 0 ? 0 : after[seen] - before[seen]))
			seen = i;
	printf("%s\n  {\"name\": \"%s\", \"flows\": %u, \"medianNs\": %.1f, \"minNs\": %.1f, \"maxNs\": %.1f, \"action\": %u, \"verdict\": %d}",
	       lines++ ? "," : "[", name, 1u << log2_flows, ns[windows / 2], ns[0], ns[windows - 1], action, seen);
	fflush(stdout);
}

int main(int count, char **arguments)
{
	static const int sizes[] = { 0, 14, 17, 20 };
	int cpu = count > 3 ? atoi(arguments[3]) : 1, windows = count > 4 ? atoi(arguments[4]) : 15;
	cpu_set_t set;

	if (count < 3 || windows < 1 || windows >= BENCH_TIMES) {
		fprintf(stderr, "usage: bench FOLDER STEER_OBJECT [CPU [WINDOWS < %d]]\n", BENCH_TIMES);
		return 2;
	}
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	check(sched_setaffinity(0, sizeof(set), &set), "pin to a CPU");
	cpus = libbpf_num_possible_cpus();
	load_harness(arguments[1]);
	struct bpf_object *floor_object = open_object(arguments[1], "floor.bpf.o");
	check(bpf_object__load(floor_object), "load floor");
	int floor_swap = program_fd(floor_object, "floor_swap"), steer = load_steer(arguments[2]);

	for (int i = 0; i < 4; i++) {
		measure("floor", floor_swap, 0, FLAG_ACK, sizes[i], 0x0a000000, 1, windows);
		measure("established IPv4", steer, 0, FLAG_ACK, sizes[i], 0x0a000000, 1, windows);
		measure("established IPv6", steer, 1, FLAG_ACK, sizes[i], 0x0a000000, 1, windows);
	}
	/* 2^24 flows in one pass each: 16 times what `recent` holds, so every packet is of a flow it does not know. */
	measure("new flow, SYN, IPv4", steer, 0, FLAG_SYN, 24, 0x20000000, 0, windows);
	measure("new flow, ACK, IPv4", steer, 0, FLAG_ACK, 24, 0x30000000, 0, windows);
	measure("new flow, SYN, IPv6", steer, 1, FLAG_SYN, 24, 0x20000000, 0, windows);
	printf("\n]\n");
	return 0;
}
