// Package rendezvous brings the processes of a group together and notices when
// one of them is gone. It knows nothing of GPUs: what travels is bytes and file
// descriptors.
//
// Rank 0 listens, at an address that all ranks know; the others dial it, again
// and again until the context's deadline. Rank 0's own Session is a client of
// the same hub. Everything goes through the hub:
//
//	handshake  both sides prove with an HMAC over fresh nonces that they know the
//	           secret; each direction gets a key, and every frame after that is
//	           sealed with AES-256-GCM under a counter: nothing can be read,
//	           changed, repeated, left out or put in
//	hello      each rank tells who and where it is, and what must be the same on
//	           all ranks; once all are there every rank gets all of them
//	gather     every rank sends bytes, every rank gets everybody's; a rank that
//	           gives up ends the round on all ranks
//	beat       both ways, every quarter of a second
//	gone       a rank's connection ended, or was silent for too long
//
// Ranks of one host have a Unix socket besides, in a directory that only the
// user can enter, over which file descriptors travel.
//
// A connection that sends anything else is closed, and nothing else happens,
// unless it is a member of the group: then it counts as gone.
//
// The first rank that is gone ends the group: every call on every Session
// returns a *RankError from then on, at once. Survivors close their Sessions and
// join again, with other ranks, a higher Generation, or both.
package rendezvous
