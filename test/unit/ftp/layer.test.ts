import "../../support/quiet.js";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import type { ApplicationLayer, BundlePort, Relation } from "../../../agent/protocols/application.js";
import { Areas } from "../../../agent/protocols/ftp/areas.js";
import { FtpDataLayer } from "../../../agent/protocols/ftp/data_layer.js";
import { FtpLayer } from "../../../agent/protocols/ftp/layer.js";
import { makeUserLine } from "../../../agent/protocols/ftp/users.js";
import { RefusedError } from "../../../proto/errors.js";
import type { LayerSection } from "../../../proto/record.js";
import { eventually } from "../../support/eventually.js";
import { FakePort } from "../../support/port.js";

const CHEAP = { N: 2, r: 1, p: 1 };
const RANGE = { from: 30000, to: 30009 };

/** A record is there at once. */
class Port extends FakePort {
  override async recorded(): Promise<void> {}
}

class FakeBundle implements BundlePort {
  readonly id = "10-77-0-10_51234_10-77-0-100_21_tcp.1";
  control: ApplicationLayer | undefined;
  related: ApplicationLayer[] = [];
  relations: Relation[] = [];
  readonly expected = new Set<number>();
  taken = 0;

  async relate(relations: Relation[]): Promise<void> {
    if (this.taken-- > 0) throw new RefusedError("taken");
    this.relations.push(...relations);
  }
  restate(relations: Relation[]): void {
    this.relations.push(...relations);
  }
  unrelate(relations: Relation[]): void {
    this.relations = this.relations.filter((one) => !relations.some(({ vipPort }) => vipPort === one.vipPort));
  }
  expect(port: number): void {
    this.expected.add(port);
  }
  expectNone(port: number): void {
    this.expected.delete(port);
  }
  dial(): Promise<void> {
    return Promise.reject(new Error("nobody answers"));
  }
  openGroup(): Promise<never> {
    return Promise.reject(new Error("there are no groups here"));
  }
  openDatagrams(): Promise<never> {
    return Promise.reject(new Error("FTP has no datagrams"));
  }
}

/** A session of user lab, who may write into a directory of the test's own. */
class Scene {
  readonly port = new Port();
  readonly bundle = new FakeBundle();
  layer!: FtpLayer;
  /** Of the log. */
  readonly lines: object[] = [];
  private said = 0;
  private sent = 0;

  private constructor(
    readonly directory: string,
    private readonly areas: Areas,
  ) {}

  static async open(t: ExecutionContext): Promise<Scene> {
    const directory = mkdtempSync(join(tmpdir(), "baton-ftp-layer-"));
    t.teardown(() => rmSync(directory, { recursive: true }));
    const home = join(directory, "home");
    mkdirSync(home);
    const users = join(directory, "users");
    writeFileSync(users, await makeUserLine({ name: "lab", directory: home, writable: true }, "secret", CHEAP));
    const native = { hashFile: () => Promise.reject(new Error("nothing is hashed here")) };
    const areas = await Areas.open({
      ...{ anonymous: undefined, anonymousDirectory: undefined, users, state: directory, native },
    });
    const scene = new Scene(home, areas);
    scene.begin();
    scene.layer.begin();
    await scene.expect(220);
    return scene;
  }

  private begin(): void {
    this.port.bundle = this.bundle;
    this.layer = new FtpLayer(this.port, this.sent, this.areas, RANGE, 20, {
      info: (line: object) => void this.lines.push(line),
    });
    this.bundle.control = this.layer;
  }

  /** As another server's, from the record; input that was not used comes again. */
  async takeOver(unused = ""): Promise<void> {
    const block: LayerSection[] = [];
    this.layer.checkpoint(block);
    this.layer.closed(false);
    this.begin();
    await this.layer.unready(block[0] as LayerSection);
    this.layer.ready();
    if (unused) this.layer.input(Buffer.from(unused));
  }

  say(line: string): void {
    const chunk = Buffer.from(`${line}\r\n`);
    this.sent += chunk.length;
    this.layer.input(chunk);
  }

  /** @returns the next reply, which has this code */
  async expect(code: number): Promise<string> {
    const next = () =>
      /^(?:\d{3}-.*\r\n(?: .*\r\n)*)?\d{3} .*\r\n/.exec(this.port.out.subarray(this.said).toString())?.[0];
    const reply = await eventually(`a reply ${code}`, next, 3_000);
    this.said += Buffer.byteLength(reply);
    if (!new RegExp(`^${code}[ -]`).test(reply)) throw new Error(`${code} was expected, and came ${reply}`);
    return reply;
  }

  async command(line: string, code: number): Promise<string> {
    this.say(line);
    return this.expect(code);
  }

  /** Every line that was said has been looked at. */
  async used(): Promise<void> {
    await eventually("it is used", () => this.port.processedTo === this.sent);
  }

  async logIn(): Promise<void> {
    await this.command("USER lab", 331);
    await this.command("PASS secret", 230);
  }

  /** The client opens a data connection. */
  connect(): { data: FtpDataLayer; port: Port } {
    const port = new Port();
    port.bundle = this.bundle;
    const data = new FtpDataLayer(port, 0, this.areas);
    this.bundle.related.push(data);
    data.begin();
    return { data, port };
  }
}

test("it is half-open until somebody has logged in; one too many is told so", async (t) => {
  const scene = await Scene.open(t);
  t.true(scene.layer.halfOpen());
  scene.say("USER lab");
  await scene.expect(331);
  t.true(scene.layer.halfOpen());
  scene.say("PASS secret");
  await scene.expect(230);
  t.false(scene.layer.halfOpen());
  scene.layer.turnAway();
  await scene.expect(421);
  t.true(scene.port.ended());
});

test("nothing but logging in before logging in, and three failures are enough, whatever is said in between", async (t) => {
  const scene = await Scene.open(t);
  await scene.command("LIST", 530);
  await scene.command("PASS secret", 503);
  await scene.command("USER nobody", 331);
  await scene.command("PASS secret", 530);
  await scene.command("REIN", 220);
  await scene.command("USER lab", 331);
  await scene.command("PASS wrong", 530);
  await scene.command("USER anonymous", 331);
  await scene.command("PASS x@y", 530);
  t.true(scene.port.fin);
});

test("a port is announced once it is related, and no other bundle's", async (t) => {
  const scene = await Scene.open(t);
  await scene.logIn();
  scene.bundle.taken = 3;
  const reply = await scene.command("PASV", 227);
  const [, high, low] = /,(\d+),(\d+)\)/.exec(reply) ?? [];
  const port = Number(high) * 256 + Number(low);
  t.deepEqual(scene.bundle.relations, [{ transport: "tcp", vipPort: port, clientPort: 0 }]);
  t.deepEqual([...scene.bundle.expected], [port]);
  await scene.command("USER lab", 331);
  t.deepEqual([...scene.bundle.expected], [], "the next user does not inherit it");
  await scene.command("PASS secret", 230);
  scene.bundle.taken = 100;
  await scene.command("EPSV", 425);
});

test("an upload is where it belongs when 226 is said, also begun ahead of its command", async (t) => {
  const scene = await Scene.open(t);
  await scene.logIn();
  await scene.command("EPSV", 229);
  const { data, port } = scene.connect();
  data.input(Buffer.from("ahead "));
  await scene.command("STOR a", 150);
  data.input(Buffer.from("and behind"));
  data.inputEnd();
  await scene.expect(226);
  t.is(readFileSync(join(scene.directory, "a"), "utf8"), "ahead and behind");
  t.true(port.fin);
  t.is(port.processedTo, 16);
});

test("appending begins where the file ends when it begins, not when it was asked for", async (t) => {
  const scene = await Scene.open(t);
  await scene.logIn();
  writeFileSync(join(scene.directory, "log"), "one ");
  await scene.command("EPSV", 229);
  scene.say("APPE log");
  await scene.used();
  writeFileSync(join(scene.directory, "log"), "one two ");
  const { data } = scene.connect();
  await scene.expect(150);
  data.input(Buffer.from("three"));
  data.inputEnd();
  await scene.expect(226);
  t.is(readFileSync(join(scene.directory, "log"), "utf8"), "one two three");
});

test("an upload goes on where the file has what its client takes for stored, and nowhere else", async (t) => {
  const scene = await Scene.open(t);
  await scene.logIn();
  await scene.command("EPSV", 229);
  const { data, port } = scene.connect();
  await scene.command("STOR a", 150);
  data.input(Buffer.from("0123456789"));
  await eventually("it is stored", () => port.processedTo === 10);
  const block: LayerSection[] = [];
  data.checkpoint(block);
  data.closed(false);
  const areas = (scene as unknown as { areas: Areas }).areas;
  const heir = () => {
    const next = new Port();
    next.bundle = scene.bundle;
    next.processedTo = 10;
    return new FtpDataLayer(next, 10, areas);
  };
  const good = heir();
  await good.unready(block[0] as LayerSection);
  good.undo();
  writeFileSync(join(scene.directory, "a"), "012");
  await t.throwsAsync(heir().unready(block[0] as LayerSection), {
    instanceOf: RefusedError,
    message: /has 3 bytes here/,
  });
  rmSync(join(scene.directory, "a"));
  await t.throwsAsync(heir().unready(block[0] as LayerSection), { instanceOf: RefusedError });
  t.false(existsSync(join(scene.directory, "a")), "nothing is made up");
});

test("a command is not answered by what an earlier connection did", async (t) => {
  const scene = await Scene.open(t);
  await scene.logIn();
  writeFileSync(join(scene.directory, "x"), "");
  await scene.command("EPSV", 229);
  const first = scene.connect();
  await scene.command("NLST", 150);
  first.data.acknowledged(first.port.tail());
  await scene.expect(226);
  await scene.command("EPSV", 229);
  const second = scene.connect();
  await scene.command("NLST", 150);
  t.is(second.port.out.toString(), "x\r\n");
  second.data.acknowledged(second.port.tail());
  await scene.expect(226);
});

test("a survivor executes a change again, and takes what is done for its success", async (t) => {
  const scene = await Scene.open(t);
  await scene.logIn();
  class Stuck extends Port {
    override recorded(): Promise<void> {
      return new Promise(() => {});
    }
  }
  Object.setPrototypeOf(scene.port, Stuck.prototype);
  scene.say("MKD made");
  await new Promise((resolve) => setImmediate(resolve));
  mkdirSync(join(scene.directory, "made")); // the dead server came so far
  Object.setPrototypeOf(scene.port, Port.prototype);
  await scene.takeOver("MKD made\r\n");
  t.regex(await scene.expect(257), /"\/made"/);
  t.regex(await scene.command("MKD made", 550), /something of that name/);
});

test("a survivor waits for the data connection of a command that has come", async (t) => {
  const scene = await Scene.open(t);
  await scene.logIn();
  writeFileSync(join(scene.directory, "x"), "");
  await scene.command("EPSV", 229);
  scene.say("NLST");
  await scene.used();
  await scene.takeOver();
  await eventually("it is expected", () => scene.bundle.expected.size === 1);
  await new Promise((resolve) => setTimeout(resolve, 20));
  const { port } = scene.connect();
  await scene.expect(150);
  t.is(createHash("sha256").update(port.out).digest("hex"), createHash("sha256").update("x\r\n").digest("hex"));
});

test("a file is made once there is a connection for its data, by whoever has the session then", async (t) => {
  const scene = await Scene.open(t);
  const isThere = () => existsSync(join(scene.directory, "a"));
  await scene.logIn();
  await scene.command("EPSV", 229);
  await scene.command("STOR none/a", 550);
  await scene.command("EPSV", 229);
  scene.say("STOR a");
  await scene.used();
  t.false(isThere());
  scene.say("ABOR");
  await scene.expect(426);
  await scene.expect(226);
  t.false(isThere());
  await scene.command("EPSV", 229);
  scene.say("STOR a");
  await scene.used();
  await scene.takeOver();
  await eventually("it is expected", () => scene.bundle.expected.size === 1);
  t.false(isThere());
  await new Promise((resolve) => setTimeout(resolve, 20));
  const { data } = scene.connect();
  await scene.expect(150);
  t.true(isThere());
  data.input(Buffer.from("all of it"));
  data.inputEnd();
  await scene.expect(226);
  t.is(readFileSync(join(scene.directory, "a"), "utf8"), "all of it");
});

test("a file that cannot be made is said so, with its connection there", async (t) => {
  const scene = await Scene.open(t);
  await scene.logIn();
  await scene.command("EPSV", 229);
  scene.say("STOR a");
  await scene.used();
  mkdirSync(join(scene.directory, "a"));
  const { port } = scene.connect();
  await scene.expect(550);
  t.true(port.fin, "it is not wanted any more");
  await scene.command("NOOP", 200);
});

test("each login and each transfer has a line in the log", async (t) => {
  const scene = await Scene.open(t);
  await scene.command("USER lab", 331);
  await scene.command("PASS wrong", 530);
  await scene.logIn();
  await scene.command("EPSV", 229);
  const upload = scene.connect();
  await scene.command("STOR a", 150);
  upload.data.input(Buffer.from("0123456789"));
  upload.data.inputEnd();
  await scene.expect(226);
  await scene.command("EPSV", 229);
  const listing = scene.connect();
  await scene.command("NLST", 150);
  listing.port.acknowledgedTo = 2;
  void listing.data.closed(true);
  await scene.expect(426);
  const { id: connection } = scene.port;
  const login = { connection, client: "10.77.0.10", user: "lab" };
  const transfer = { connection: scene.bundle.id, user: "lab" };
  t.like(scene.lines, [
    { ...login, code: 530 },
    { ...login, code: 230 },
    { ...transfer, verb: "STOR", file: "/a", bytes: 10, code: 226 },
    { ...transfer, verb: "NLST", file: "/", bytes: 2, code: 426 },
  ]);
  t.true(scene.lines.slice(2).every((line) => "ms" in line && (line.ms as number) >= 0));
});
