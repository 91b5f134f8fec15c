import { Steering, type SteeringOptions } from "../../../controller/steering/index.js";

/** A process that steers, in the namespace it was started in: does what its parent tells it, until it is killed. */

let steering: Steering | undefined;
const report = (event: string, what: unknown) => process.send?.({ event, what });

/** What the parent may call, by name. */
export const calls = {
  load: (options: Omit<SteeringOptions, "onHeld" | "onBounced">) => {
    steering = Steering.load({
      ...options,
      ownMac: Buffer.from(options.ownMac),
      onHeld: (flows) => report("held", flows),
      onBounced: (packets) => report("bounced", packets),
    });
  },
  close: () => steering?.close(),
  unload: (pins: string) => Steering.unload(pins),
  setServer: (...[slot, server]: Parameters<Steering["tables"]["setServer"]>) =>
    steering!.tables.setServer(slot, { ...server, mac: Buffer.from(server.mac) }),
  setTables: (...a: Parameters<Steering["tables"]["setTables"]>) => steering!.tables.setTables(...a),
  putExceptions: (...a: Parameters<Steering["tables"]["putExceptions"]>) => steering!.tables.putExceptions(...a),
  relate: (...a: Parameters<Steering["tables"]["relate"]>) => steering!.tables.relate(...a),
  relations: () => steering!.tables.relations(),
  exceptions: () => steering!.tables.exceptions(),
  verdicts: () => steering!.tables.verdicts(),
  hintsOf: (...a: Parameters<Steering["hintsOf"]>) => steering!.hintsOf(...a),
  assign: (...a: Parameters<Steering["assign"]>) => steering!.assign(...a),
  forget: (...a: Parameters<Steering["forget"]>) => steering!.forget(...a),
  drop: (...a: Parameters<Steering["drop"]>) => steering!.drop(...a),
  held: () => steering!.held(),
  holding: () => steering!.holding(),
  stateOf: (slot: number) => steering!.tables.stateOf(slot),
  beginHold: (...a: Parameters<Steering["beginHold"]>) => steering!.beginHold(...a),
  send: (frame: Uint8Array) => steering!.send(Buffer.from(frame)),
};

process.on("message", async ({ id, name, args }: { id: number; name: keyof typeof calls; args: unknown[] }) => {
  try {
    const answer = await (calls[name] as (...a: unknown[]) => unknown)(...args);
    process.send?.({ id, answer });
  } catch (error) {
    process.send?.({ id, error: { code: (error as { code?: string }).code, message: (error as Error).message } });
  }
});
process.on("disconnect", () => process.exit());
