// What the service reads from /proc and control groups, tried on files from machines and containers.
import { describe, expect, test } from "vitest";
import { groupPath, memoryOf, processorOf } from "../../src/machine/cgroup.js";
import {
  busyPercent,
  diskUse,
  externalInterfaces,
  localFileSystems,
  readAllowedCpus,
  readCpuList,
  readCpuTime,
  readMeminfo,
  readNetDev,
} from "../../src/machine/linux.js";

const pathsOf = (lines: readonly string[]) => localFileSystems(lines.join("\n")).map(({ path }) => path);

describe("the local file systems", () => {
  const root = "27 1 254:0 / / rw,relatime - ext4 /dev/vda1 rw";
  test.each<[string, string[], string[]]>([
    ["are those on disks", [root, "28 27 254:16 / /data rw shared:1 - xfs /dev/vdb rw"], ["/", "/data"]],
    [
      "are none of another machine",
      [
        root,
        "30 27 0:50 / /mnt/nfs rw - nfs4 server:/export rw,addr=10.0.0.1",
        "31 27 0:51 / /mnt/smb rw - cifs //server/share rw",
        "32 27 0:52 / /mnt/ssh rw - fuse.sshfs user@host: rw",
        "33 27 0:53 / /mnt/ceph rw - ceph 10.0.0.1:6789:/ rw",
        "34 27 0:54 / /mnt/gluster rw - fuse.glusterfs gluster:/volume rw",
        "35 27 0:55 / /mnt/9p rw - 9p share rw,trans=virtio",
        "36 27 0:56 / /mnt/auto rw - autofs systemd-1 rw",
      ],
      ["/"],
    ],
    [
      "are none in memory, and none that only shows another one",
      [
        root,
        "40 27 0:30 / /run rw - tmpfs tmpfs rw",
        "41 27 0:31 / /dev rw - devtmpfs udev rw",
        "42 27 0:32 / /proc rw - proc proc rw",
        "43 27 0:33 / /var/lib/docker/overlay2/1/merged rw - overlay overlay rw,lowerdir=/l",
        "44 27 7:1 / /snap/core/1 ro - squashfs /dev/loop1 ro",
        "45 27 7:2 / /mnt/image rw - ext4 /dev/loop2 rw",
        "46 27 11:0 / /media/cd ro - iso9660 /dev/sr0 ro",
      ],
      ["/"],
    ],
    [
      "count once, however often they are mounted",
      [
        root,
        "50 27 254:0 /var/lib/x /srv/a/long/path rw - ext4 /dev/vda1 rw",
        "51 27 254:0 /var/lib/y /srv/y rw - ext4 /dev/vda1 rw",
        "52 27 0:40 /@ /b rw - btrfs /dev/vdc rw",
        "53 27 0:41 /@home /b/home rw - btrfs /dev/vdc rw",
      ],
      ["/", "/b"],
    ],
    [
      "of a container are the disk that its files lie on",
      [
        "600 500 0:60 / / rw,relatime - overlay overlay rw,lowerdir=/a,upperdir=/b",
        "601 600 0:61 / /proc rw - proc proc rw",
        "602 600 254:1 /docker/containers/1/resolv.conf /etc/resolv.conf rw - ext4 /dev/vda1 rw",
        "603 600 254:1 /docker/containers/1/hostname /etc/hostname rw - ext4 /dev/vda1 rw",
        "604 600 254:1 /docker/containers/1/hosts /etc/hosts rw - ext4 /dev/vda1 rw",
        "605 600 0:70 / /mnt/models rw - nfs4 server:/models rw",
      ],
      ["/etc/hosts"],
    ],
    ["of a container whose disk does not show is its root", ["600 500 0:60 / / rw - overlay overlay rw"], ["/"]],
    ["of a machine that lives in memory are none", ["600 500 0:60 / / rw - tmpfs tmpfs rw"], []],
    [
      "are none that another one is mounted over, for its path leads to that one",
      [
        root,
        "70 27 254:16 / /data rw - ext4 /dev/vdb rw",
        "71 70 0:50 / /data rw - nfs4 server:/export rw",
        "72 27 254:32 / /deep/er rw - ext4 /dev/vdc rw",
        "73 27 0:51 / /deep rw - nfs4 server:/export rw",
      ],
      ["/"],
    ],
    [
      "are the uppermost of those at one path",
      [
        root,
        "75 27 254:16 / /data rw - ext4 /dev/vdb rw",
        "76 75 254:32 / /data rw - ext4 /dev/vdc rw",
        "77 76 254:48 / /data/in rw - ext4 /dev/vdd rw",
        "78 75 254:64 / /data/under rw - ext4 /dev/vde rw",
      ],
      ["/", "/data", "/data/in"],
    ],
    ["may have spaces in their paths", ["74 1 254:16 / /my\\040data rw - ext4 /dev/vdb rw"], ["/my data"]],
    ["are read past lines of another form", ["", "nonsense", "1 2 3", "- - -", root], ["/"]],
  ])("%s", (_, lines, expected) => {
    expect(pathsOf(lines)).toEqual(expected);
  });

  test("on a first mount that is its own parent are found", () => {
    expect(pathsOf(["1 1 254:0 / / rw - ext4 /dev/vda rw", "2 1 254:16 / /data rw - ext4 /dev/vdb rw"])).toEqual([
      "/",
      "/data",
    ]);
  });

  const range = (count: number, line: (place: number) => string) => Array.from({ length: count }, (_, n) => line(n));
  test.each<[string, string[], number]>([
    ["overlays", range(5_000, (n) => `${n + 100} 27 0:${n} / /var/lib/docker/${n} rw - overlay overlay rw`), 1],
    [
      "file systems on disks",
      range(5_000, (n) => `${n + 100} 27 8:${n} / /mnt/a/b/${n} rw - ext4 /dev/sd${n} rw`),
      5_001,
    ],
    ["views of one disk", range(5_000, (n) => `${n + 100} 27 8:1 /${n} /views/of/${n} rw - ext4 /dev/sda1 rw`), 2],
    [
      "mounts one upon another",
      range(5_000, (n) => `${n + 100} ${n === 0 ? 27 : n + 99} 8:${n} / /mnt rw - ext4 /dev/sd${n} rw`),
      2,
    ],
    [
      "mounts one in another",
      range(
        5_000,
        (n) => `${n + 100} ${n === 0 ? 27 : n + 99} 8:${n} / /mnt${"/d".repeat(n % 30)}/${n} rw - xfs /dev/sd${n} rw`,
      ),
      5_001,
    ],
  ])("of a machine with 5,000 %s are found within a tenth of a second of processor time", (_, lines, count) => {
    const mountinfo = [root, ...lines].join("\n");
    // The best of three runs, since the first one also pays for compiling.
    const tookMs = [1, 2, 3].map(() => {
      const before = process.cpuUsage();
      expect(localFileSystems(mountinfo)).toHaveLength(count);
      const { user, system } = process.cpuUsage(before);
      return (user + system) / 1000;
    });
    expect(Math.min(...tookMs)).toBeLessThan(100);
  });

  test("of one ZFS pool share what is free", () => {
    const asked = localFileSystems(
      [
        "80 1 0:80 / / rw - zfs rpool/ROOT rw",
        "81 80 0:81 / /home rw - zfs rpool/home rw",
        "82 80 0:82 / /tank rw - zfs tank rw",
      ].join("\n"),
    );
    const answers = [
      { path: "/", totalBytes: 130, freeBytes: 100 },
      { path: "/home", totalBytes: 120, freeBytes: 100 },
      { path: "/tank", totalBytes: 50, freeBytes: 40 },
    ];
    expect(diskUse(asked, answers)).toEqual({ usedBytes: 60, totalBytes: 200 });
  });

  test("that answered are counted, whichever of the others did not", () => {
    const asked = ["/", "/closed", "/data", "/gone"].map((path) => ({ path, group: path }));
    const data = { path: "/data", totalBytes: 50, freeBytes: 40 };
    const root = { path: "/", totalBytes: 100, freeBytes: 70 };
    const another = { path: "/new", totalBytes: 1_000, freeBytes: 1 };
    expect(diskUse(asked, [data])).toEqual({ usedBytes: 10, totalBytes: 50 });
    expect(diskUse(asked, [data, another, root])).toEqual({ usedBytes: 40, totalBytes: 150 });
  });

  test("are unknown where there are none, or none answered", () => {
    expect(diskUse([], [])).toBeUndefined();
    expect(diskUse([{ path: "/", group: "a" }], [])).toBeUndefined();
    expect(diskUse([{ path: "/", group: "a" }], [{ path: "/", totalBytes: 0, freeBytes: 0 }])).toBeUndefined();
  });
});

describe("memory", () => {
  test.each<[string, string, object | undefined]>([
    ["in use is what is not available", "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 600 kB\n", use(400, 1000)],
    ["of an old kernel", "MemTotal: 1000 kB\nMemFree: 100 kB\nBuffers: 50 kB\nCached: 250 kB\n", use(600, 1000)],
    ["is never below zero in use", "MemTotal: 1000 kB\nMemAvailable: 1100 kB\n", use(0, 1000)],
    ["that is not told is unknown", "MemTotal: 1000 kB\n", undefined],
    ["of no file is unknown", "", undefined],
  ])("%s", (_, text, expected) => {
    expect(readMeminfo(text)).toEqual(expected);
  });
});

function use(usedKb: number, totalKb: number) {
  return { usedBytes: usedKb * 1024, totalBytes: totalKb * 1024 };
}

describe("processors", () => {
  const stat = "cpu  30 0 0 30 0 0 0 0 0 0\ncpu0 10 0 0 10 0 0 0 0 5 0\ncpu1 20 0 0 20 5 0 0 5 0 0\nintr 1 2\n";
  test("are counted as far as the process may run on them", () => {
    expect(readCpuTime(stat, undefined)).toEqual({ busy: 35, whole: 70 });
    expect(readCpuTime(stat, [0])).toEqual({ busy: 10, whole: 20 });
    expect(readCpuTime(stat, [7])).toBeUndefined();
    expect(readCpuTime("", undefined)).toBeUndefined();
  });
  test("that a process may run on are a list of ranges", () => {
    expect(readCpuList("0-2,5,9-10\n")).toEqual([0, 1, 2, 5, 9, 10]);
    expect(readCpuList("")).toEqual([]);
    expect(readAllowedCpus("Name:\tnode\nCpus_allowed:\t5\nCpus_allowed_list:\t0,2\n")).toEqual([0, 2]);
    expect(readAllowedCpus("Name:\tnode\n")).toBeUndefined();
  });
  test("are busy from one reading to the next, 0 to 100 percent, or unknown", () => {
    expect(busyPercent({ busy: 10, whole: 100 }, { busy: 60, whole: 200 })).toBe(50);
    expect(busyPercent({ busy: 0, whole: 0 }, { busy: 130, whole: 100 })).toBe(100);
    expect(busyPercent({ busy: 10, whole: 100 }, { busy: 10, whole: 100 })).toBeUndefined();
    expect(busyPercent({ busy: 10, whole: 100 }, { busy: 5, whole: 200 })).toBeUndefined();
  });
});

describe("network interfaces", () => {
  const dev =
    "Inter-|   Receive                                                |  Transmit\n" +
    " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n" +
    "    lo: 1000 1 0 0 0 0 0 0 1000 1 0 0 0 0 0 0\n" +
    "  eth0: 381455358 255 0 0 0 0 0 0 752666 99 0 0 0 0 0 0\n" +
    "docker0:7 1 0 0 0 0 0 0 8 1 0 0 0 0 0 0\n";
  test("are read with their counters", () => {
    expect(readNetDev(dev)).toEqual([
      { name: "lo", rxBytes: 1000, txBytes: 1000 },
      { name: "eth0", rxBytes: 381455358, txBytes: 752666 },
      { name: "docker0", rxBytes: 7, txBytes: 8 },
    ]);
  });
  test.each<[string, string[], string[], string[]]>([
    [
      "of a machine are its cards",
      ["lo", "enp1s0", "bond0", "br-1a", "docker0", "vethab12", "wg0", "eno1.5"],
      ["enp1s0"],
      ["enp1s0"],
    ],
    [
      "of a container are those that lead out",
      ["lo", "eth0", "eth1", "docker0", "br-0a1b", "veth1"],
      [],
      ["eth0", "eth1"],
    ],
    [
      "of a Kubernetes host without cards are none of its pods",
      ["lo", "ens3", "cni0", "cali123", "flannel.1"],
      [],
      ["ens3"],
    ],
    ["of a machine without network are none", ["lo"], [], []],
  ])("%s", (_, names, withDevice, expected) => {
    expect(externalInterfaces(names, new Set(withDevice))).toEqual(expected);
  });
});

const files = (content: Readonly<Record<string, string>>) => (directory: string, file: string) =>
  content[`${directory}/${file}`];
const cgroup2 = "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
const cgroup1 = (controllers: string, root = "/") =>
  `31 24 0:27 ${root} /sys/fs/cgroup/${controllers} rw - cgroup cgroup rw,${controllers}`;

describe("the control group", () => {
  test.each<[string, "memory" | "cpu", string, string[], object | undefined]>([
    [
      "of a service is looked for from its own level upwards",
      "memory",
      "0::/system.slice/agent.service\n",
      [cgroup2],
      {
        version: 2,
        directories: ["/sys/fs/cgroup/system.slice/agent.service", "/sys/fs/cgroup/system.slice", "/sys/fs/cgroup"],
      },
    ],
    [
      "of a container with a view of its own is the root",
      "cpu",
      "0::/\n",
      [cgroup2],
      { version: 2, directories: ["/sys/fs/cgroup"] },
    ],
    [
      "above the view of a container is where it can be seen",
      "cpu",
      "0::/../other\n",
      [cgroup2],
      { version: 2, directories: ["/sys/fs/cgroup"] },
    ],
    [
      "of a container under version 1 is mounted under its name on the host",
      "memory",
      "4:memory:/docker/abc\n1:cpu,cpuacct:/docker/abc\n0::/\n",
      [cgroup1("memory", "/docker/abc"), cgroup1("cpu,cpuacct", "/docker/abc")],
      { version: 1, directories: ["/sys/fs/cgroup/memory"] },
    ],
    [
      "of version 1 may share its place with another one",
      "cpu",
      "1:cpu,cpuacct:/user\n",
      [cgroup1("cpu,cpuacct")],
      { version: 1, directories: ["/sys/fs/cgroup/cpu,cpuacct/user", "/sys/fs/cgroup/cpu,cpuacct"] },
    ],
    [
      "of a hybrid machine is of version 2 where 1 lacks it",
      "memory",
      "1:cpu:/\n0::/x\n",
      [cgroup1("cpu"), cgroup2],
      {
        version: 2,
        directories: ["/sys/fs/cgroup/x", "/sys/fs/cgroup"],
      },
    ],
    ["that is mounted nowhere is none", "memory", "0::/\n", [], undefined],
    ["of a kernel without any is none", "memory", "", [], undefined],
  ])("%s", (_, controller, cgroup, mounts, expected) => {
    expect(groupPath(controller, cgroup, mounts.join("\n"))).toEqual(expected);
  });

  const gibibyte = 2 ** 30;
  const two = { version: 2, directories: ["/c/a/b", "/c/a", "/c"] } as const;
  const one = { version: 1, directories: ["/m/a", "/m"] } as const;
  test.each<[string, Parameters<typeof memoryOf>[0], Record<string, string>, object | undefined]>([
    [
      "limits memory by its narrowest level, and counts what is used there",
      two,
      {
        "/c/a/b/memory.max": "max\n",
        "/c/a/b/memory.current": "5\n",
        "/c/a/memory.max": `${2 * gibibyte}\n`,
        "/c/a/memory.current": `${gibibyte}\n`,
        "/c/a/memory.stat": `anon 1\nfile 2\ninactive_file ${gibibyte / 4}\n`,
      },
      { usedBytes: (gibibyte * 3) / 4, totalBytes: 2 * gibibyte },
    ],
    ["without a limit limits nothing", two, { "/c/a/b/memory.max": "max\n", "/c/memory.max": "max" }, undefined],
    ["with more than the machine has limits nothing", two, { "/c/a/memory.max": `${99 * gibibyte}` }, undefined],
    ["whose use is not told is unknown", two, { "/c/a/memory.max": `${gibibyte}` }, undefined],
    [
      "of version 1 has a number for no limit",
      one,
      { "/m/a/memory.limit_in_bytes": "9223372036854771712\n", "/m/memory.limit_in_bytes": "9223372036854771712\n" },
      undefined,
    ],
    [
      "of version 1 limits memory, too, and never shows more than all of it in use",
      one,
      {
        "/m/a/memory.limit_in_bytes": "1000\n",
        "/m/a/memory.usage_in_bytes": "1500\n",
        "/m/a/memory.stat": "x 1\ntotal_inactive_file 100\n",
      },
      { usedBytes: 1000, totalBytes: 1000 },
    ],
  ])("%s", (_, group, content, expected) => {
    expect(memoryOf(group, files(content), 16 * gibibyte)).toEqual(expected);
  });

  test.each<[string, Parameters<typeof processorOf>[0], Record<string, string>, object | undefined]>([
    [
      "limits processors by its narrowest level",
      two,
      {
        "/c/a/b/cpu.max": "200000 100000\n",
        "/c/a/cpu.max": "50000 100000\n",
        "/c/a/cpu.stat": "usage_usec 1500000\nuser_usec 1\n",
      },
      { cores: 0.5, usedMs: 1500 },
    ],
    ["without a quota limits none", two, { "/c/a/cpu.max": "max 100000\n" }, undefined],
    ["with a quota of all processors limits none", two, { "/c/a/cpu.max": "400000 100000\n" }, undefined],
    [
      "of version 1 limits them, too",
      one,
      {
        "/m/a/cpu.cfs_quota_us": "100000\n",
        "/m/a/cpu.cfs_period_us": "100000\n",
        "/m/a/cpuacct.usage": "2500000000\n",
      },
      { cores: 1, usedMs: 2500 },
    ],
    [
      "of version 1 has -1 for no quota",
      one,
      { "/m/a/cpu.cfs_quota_us": "-1\n", "/m/a/cpu.cfs_period_us": "100000\n" },
      undefined,
    ],
    [
      "of version 1 may not tell what is used",
      one,
      { "/m/cpu.cfs_quota_us": "100000\n", "/m/cpu.cfs_period_us": "50000\n" },
      { cores: 2, usedMs: undefined },
    ],
  ])("%s", (_, group, content, expected) => {
    expect(processorOf(group, files(content), 4)).toEqual(expected);
  });

  test("of version 1 counts in a place of its own, where the process stands as deep in it", () => {
    const content = {
      "/m/a/cpu.cfs_quota_us": "100000\n",
      "/m/a/cpu.cfs_period_us": "100000\n",
      "/acct/a/cpuacct.usage": "7000000\n",
      "/acct/cpuacct.usage": "9000000000\n",
    };
    const share = (directories: readonly string[]) => processorOf(one, files(content), 4, { version: 1, directories });
    expect(share(["/acct/a", "/acct"])).toEqual({ cores: 1, usedMs: 7 });
    expect(share(["/acct"])).toEqual({ cores: 1, usedMs: undefined });
  });
});
