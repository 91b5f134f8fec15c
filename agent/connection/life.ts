/**
 * This process among those of one incarnation, which all write under the same name: message ids must not come twice, and an agent that
 * replaces another one goes on under its incarnation.
 */
export const life = `${process.pid}.${Date.now().toString(36)}`;
