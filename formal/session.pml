/*
 * The life of a session between two nodes, over connections that may end at any moment and past restarts of either node.
 *
 * Node 0 dials, node 1 listens. What the cryptography gives is taken for granted here (handshake.pv, resumption.pv): a
 * handshake or a resumption that both sides finish gives both the same fresh key, and a frame opens under the key that
 * sealed it and no other. What is checked is everything around it: numbers, epochs, windows, what is stored when, who
 * waits for whom. README.md maps states and events to the source.
 *
 * Each @run is one verification: its flags, and what must come out. A `broken-` run takes one safeguard away and must
 * fail with just that complaint (the comment beside the assertion, or Spin's own words): it shows that the property can
 * fail, and what the safeguard is for. Runs named `deep-` are larger and run with `npm run formal -- --deep`.
 *
 * @run lives             | -DLIVES=3 -DRESTARTS=1 -DTAPS=0             | holds
 * @run taps              | -DLIVES=2 -DRESTARTS=1 -DTAPS=1             | holds
 * @run two-taps          | -DLIVES=2 -DRESTARTS=0 -DTAPS=2             | holds
 * @run window            | -DLIVES=1 -DRESTARTS=0 -DTAPS=2 -DSEQUENCES=4 | holds
 * @run window-alone      | -DNO_FILTER                                 | holds
 * @run filter-alone      | -DNO_WINDOW                                 | holds
 * @run ends              | -DLTL_ENDS                                  | holds
 * @run deep-lives        | -DLIVES=4 -DRESTARTS=2 -DTAPS=0             | holds
 * @run deep-taps         | -DLIVES=3 -DRESTARTS=1 -DTAPS=1             | holds
 * @run broken-same-keys  | -DBROKEN_SAME_KEYS                          | an IV is used twice
 * @run broken-old-frames | -DBROKEN_SAME_KEYS -DIGNORE_IVS -DNO_FILTER | a frame of an older epoch is accepted
 * @run broken-same-epoch | -DBROKEN_SAME_EPOCH -DLIVES=3               | an honest frame is refused as a replay
 * @run broken-late-save  | -DBROKEN_LATE_SAVE -DLIVES=3                | an honest frame is refused as a replay
 * @run broken-no-window  | -DNO_WINDOW -DNO_FILTER                     | a frame is delivered twice
 * @run broken-any-count  | -DBROKEN_ANY_COUNT -DLIVES=3                | the two resume from different secrets
 * @run broken-no-proof   | -DBROKEN_NO_PROOF                           | established without both proofs
 * @run broken-deadline   | -DBROKEN_NO_DEADLINE                        | invalid end state
 * @run broken-no-expiry  | -DLTL_ENDS -DBROKEN_NO_EXPIRY               | acceptance cycle
 */

/* Handshakes and resumptions that get as far as making a key. Each makes its own number: its keys and secrets bear it. */
#ifndef LIVES
#define LIVES 2
#endif
/* Restarts, of both nodes together. */
#ifndef RESTARTS
#define RESTARTS 1
#endif
/* What somebody on the way does: takes a sealed frame out or copies it, and puts it back where and when he likes. */
#ifndef TAPS
#define TAPS 1
#endif
/* Frames of one side in one life are numbered below this. Number 0 is the proof. */
#ifndef SEQUENCES
#define SEQUENCES 3
#endif
/* How far a frame may lie behind the highest, or in front of it. */
#define WINDOW 2

#define DIALLER 0
#define LISTENER 1
#define OTHER(n) (1 - (n))

/* Where a node stands with its peer. NEW and SUSPENDED have no link; SUSPENDED has a stored session. */
mtype:state = { NEW, NEGOTIATING, HANDSHAKING, RESUMING, PROVING, ESTABLISHED, SUSPENDED, EXPIRED }
mtype:frame = { HELLO, HANDSHAKE, RESUME, PROOF, DATA, GOODBYE }
/* A node's end of the connection. OLD: it is gone, and the node has not noticed. */
mtype:link = { NONE, CURRENT, OLD }

/*
 * Frames on their way to node n. Fields: kind, then for
 *   HELLO               offered or accepted session (0: none), resumptions, 0, 0, 0
 *   HANDSHAKE, RESUME   step 1-3, life, secret that the sender proves to hold, 0, 0
 *   PROOF DATA GOODBYE  key, resumptions, rekeys, sequence, life
 * The life in a sealed frame is not sent in reality: the properties ask for it.
 */
chan wire[2] = [2] of { mtype:frame, byte, byte, byte, byte, byte }
#define IN(n)  wire[n]
#define OUT(n) wire[OTHER(n)]

bool up = false;                /* whether there is a connection */
mtype:link link[2] = NONE;
mtype:state st[2] = NEW;
byte lives = 0;
byte restarts = 0;
bool expired = false;           /* the stored sessions' time is over */

/* On disk: outlives a restart. */
byte storedSid[2];              /* 0: nothing */
byte storedSecret[2];
byte storedCount[2];
byte taken[2 * (LIVES + 1) * (LIVES + 1)]; /* replay filter: bits by rekeys and sequence, for each session and count */

/* In memory. */
byte sid[2];
byte key[2];
byte life[2];
byte count[2];                  /* resumptions: the high half of the epoch */
byte sent[2];                   /* next sequence */
byte sentRekeys[2];
byte highest[2];                /* one more than the highest sequence that arrived */
byte arrived[2];                /* bits */
byte arrivedRekeys[2];
bool proofSent[2];
bool proofSeen[2];
byte turn[2];                   /* step of the handshake that was last said or heard */

/* What the properties remember, bits by rekeys and sequence: what each key sealed, what was delivered in this life. */
byte sealedWith[2 * (LIVES + 1)];
byte delivered[2];

#define ALL 255
#define BIT(rekeys, sequence) (1 << ((rekeys) * SEQUENCES + (sequence)))
#define FILTER(n, s, c) taken[((n) * (LIVES + 1) + (s)) * (LIVES + 1) + (c)]
#define OF(n, k) ((n) * (LIVES + 1) + (k))

#define IS_IDLE(n) (st[n] == NEW || st[n] == SUSPENDED)
#define HAS_ENDED (st[DIALLER] == EXPIRED && st[LISTENER] == EXPIRED)

/*
 * Drops everything that a node has in memory about its peer. From then on its keys and epochs count as used up: had they
 * sealed or taken one frame, then any. That is stricter than reality, and keeps histories apart that need not be.
 */
inline forget(n) {
  if :: sealedWith[OF(n, key[n])] != 0 -> sealedWith[OF(n, key[n])] = ALL :: else fi;
  if :: FILTER(n, sid[n], count[n]) != 0 -> FILTER(n, sid[n], count[n]) = ALL :: else fi;
  delivered[n] = 0;
  link[n] = NONE;
  sid[n] = 0; key[n] = 0; life[n] = 0; count[n] = 0;
  sent[n] = 0; sentRekeys[n] = 0; highest[n] = 0; arrived[n] = 0; arrivedRekeys[n] = 0;
  proofSent[n] = false; proofSeen[n] = false; turn[n] = 0;
  if
  :: storedSid[n] == 0 -> st[n] = NEW
  :: else -> st[n] = SUSPENDED
  fi
}

/* The connection ends, and what is on its way is lost. Each node finds out by itself. */
inline cut() {
  up = false;
  do
  :: len(wire[0]) > 0 -> wire[0]?_,_,_,_,_,_
  :: len(wire[0]) == 0 -> break
  od;
  do
  :: len(wire[1]) > 0 -> wire[1]?_,_,_,_,_,_
  :: len(wire[1]) == 0 -> break
  od;
  if :: link[DIALLER] == CURRENT -> link[DIALLER] = OLD :: else fi;
  if :: link[LISTENER] == CURRENT -> link[LISTENER] = OLD :: else fi
}

/* A node ends its own link. */
inline leave(n) {
  if :: link[n] == CURRENT -> cut() :: else fi;
  forget(n)
}

inline store(n) {
  storedSid[n] = sid[n]; storedSecret[n] = life[n]; storedCount[n] = count[n]
}

/* Both shares are known: a handshake (s = 0) makes a new session, a resumption goes on with session s. */
inline derive(n, isResumed) {
  if
  :: isResumed ->
    sid[n] = storedSid[n];
#ifdef BROKEN_SAME_EPOCH
    count[n] = storedCount[n];
#else
    count[n] = storedCount[n] + 1;
#endif
#ifdef BROKEN_SAME_KEYS
    key[n] = storedSecret[n];
    count[n] = storedCount[n]
#else
    key[n] = life[n]
#endif
  :: else ->
    sid[n] = life[n]; key[n] = life[n]; count[n] = 0
  fi
}

/* The keys are agreed. A resumption is written down before anything is sealed in its epoch, so the epoch is used once. */
inline agreed(n, isResumed) {
#ifndef BROKEN_LATE_SAVE
  if :: isResumed -> store(n) :: else fi;
#endif
  st[n] = PROVING
}

inline establish(n) {
  store(n);
  assert(proofSent[n] && proofSeen[n]); /* established without both proofs */
  st[n] = ESTABLISHED;
  if
  :: st[OTHER(n)] == ESTABLISHED && link[n] == CURRENT && link[OTHER(n)] == CURRENT ->
    assert(key[0] == key[1] && sid[0] == sid[1] && count[0] == count[1] && life[0] == life[1]) /* both are established, on different keys or epochs */
  :: else
  fi
}

/* Seals and sends a frame: its key, epoch and sequence are used up. */
inline seal(n, kind) {
#ifndef IGNORE_IVS
  assert((sealedWith[OF(n, key[n])] & BIT(sentRekeys[n], sent[n])) == 0); /* an IV is used twice */
#endif
  sealedWith[OF(n, key[n])] = sealedWith[OF(n, key[n])] | BIT(sentRekeys[n], sent[n]);
  OUT(n)!kind,key[n],count[n],sentRekeys[n],sent[n],life[n];
  sent[n]++
}

/* Whether the listener stands where the dialler says that it stood at the end of the session. */
#ifdef BROKEN_ANY_COUNT
#define HAS_COUNT(n) true
#else
#define HAS_COUNT(n) c == storedCount[n]
#endif
#define OPENS(n) (k == key[n] && c == count[n] && r <= arrivedRekeys[n] + 1)
#ifdef NO_WINDOW
#define IN_WINDOW(n) true
#else
#define IN_WINDOW(n) (s + WINDOW >= highest[n] && s < highest[n] + WINDOW && (arrived[n] & (1 << s)) == 0)
#endif
#ifdef NO_FILTER
#define IS_TAKEN(n) false
#else
#define IS_TAKEN(n) ((FILTER(n, sid[n], c) & BIT(r, s)) != 0)
#endif

/* The checks of a sealed frame (k, c, r, s, l) in the order of the code; `isTaken` says whether it may be delivered. */
inline open(n) {
  isTaken = false;
  if
  :: !OPENS(n) || !IN_WINDOW(n)
  :: else ->
    arrived[n] = arrived[n] | (1 << s);
    if :: s >= highest[n] -> highest[n] = s + 1 :: else fi;
    if :: r > arrivedRekeys[n] -> arrivedRekeys[n] = r :: else fi;
    if
    :: IS_TAKEN(n) ->
      assert((delivered[n] & BIT(r, s)) != 0) /* an honest frame is refused as a replay */
    :: else ->
      FILTER(n, sid[n], c) = FILTER(n, sid[n], c) | BIT(r, s);
      assert(l == life[n]); /* a frame of an older epoch is accepted */
      assert((delivered[n] & BIT(r, s)) == 0); /* a frame is delivered twice */
      delivered[n] = delivered[n] | BIT(r, s);
      isTaken = true
    fi
  fi
}

/* A frame that was read is over: what was in it is no part of the state. */
#define DROP kind = 0; isTaken = false; k = 0; c = 0; r = 0; s = 0; l = 0

proctype Node(byte n) {
  mtype:frame kind;
  byte k, c, r, s, l;
  bool isTaken;

  do
  /* The dialler begins. A link that is up, or that it takes for up, is not begun again. */
  :: atomic { n == DIALLER && IS_IDLE(n) && link[n] == NONE && !up && !expired && lives < LIVES ->
       up = true; link[n] = CURRENT; st[n] = NEGOTIATING;
       OUT(n)!HELLO,storedSid[n],storedCount[n],0,0,0
     }

  /* The listener answers, and says whether it resumes. A session whose link still seems alive is not resumed beside it. */
  :: atomic { n == LISTENER && up && link[n] != CURRENT && st[n] != EXPIRED && nfull(OUT(n)) && IN(n)?[HELLO,k,c,r,s,l] ->
       IN(n)?HELLO,k,c,r,s,l;
       if
       :: link[n] == NONE && !expired && k != 0 && k == storedSid[n] && HAS_COUNT(n) -> isTaken = true
       :: else -> isTaken = false
       fi;
       forget(n);
       link[n] = CURRENT;
       if
       :: isTaken -> st[n] = RESUMING; OUT(n)!HELLO,k,c,0,0,0
       :: else -> st[n] = HANDSHAKING; OUT(n)!HELLO,0,0,0,0,0
       fi;
       DROP
     }
  :: atomic { n == DIALLER && link[n] == CURRENT && st[n] == NEGOTIATING && nfull(OUT(n)) && IN(n)?[HELLO,k,c,r,s,l] && lives < LIVES ->
       IN(n)?HELLO,k,c,r,s,l;
       lives++; life[n] = lives; turn[n] = 1;
       if
       :: k != 0 -> st[n] = RESUMING; OUT(n)!RESUME,1,life[n],0,0,0
       :: else -> st[n] = HANDSHAKING; OUT(n)!HANDSHAKE,1,life[n],0,0,0
       fi;
       DROP
     }

  /* Handshake: three messages. */
  :: atomic { n == LISTENER && link[n] == CURRENT && st[n] == HANDSHAKING && turn[n] == 0 && nfull(OUT(n)) && IN(n)?[HANDSHAKE,k,c,r,s,l] ->
       IN(n)?HANDSHAKE,k,c,r,s,l;
       life[n] = c; turn[n] = 2; derive(n, false); OUT(n)!HANDSHAKE,2,life[n],0,0,0;
       DROP
     }
  :: atomic { n == DIALLER && link[n] == CURRENT && st[n] == HANDSHAKING && nfull(OUT(n)) && IN(n)?[HANDSHAKE,k,c,r,s,l] ->
       IN(n)?HANDSHAKE,k,c,r,s,l;
       turn[n] = 3; derive(n, false); OUT(n)!HANDSHAKE,3,life[n],0,0,0; agreed(n, false);
       DROP
     }
  :: atomic { n == LISTENER && link[n] == CURRENT && st[n] == HANDSHAKING && turn[n] == 2 && IN(n)?[HANDSHAKE,k,c,r,s,l] ->
       IN(n)?HANDSHAKE,k,c,r,s,l;
       turn[n] = 3; agreed(n, false);
       DROP
     }

  /* Resumption: three messages, the second and third with a proof of the old secret. */
  :: atomic { n == LISTENER && link[n] == CURRENT && st[n] == RESUMING && turn[n] == 0 && nfull(OUT(n)) && IN(n)?[RESUME,k,c,r,s,l] ->
       IN(n)?RESUME,k,c,r,s,l;
       life[n] = c; turn[n] = 2; derive(n, true); OUT(n)!RESUME,2,life[n],storedSecret[n],0,0;
       DROP
     }
  :: atomic { n == DIALLER && link[n] == CURRENT && st[n] == RESUMING && nfull(OUT(n)) && IN(n)?[RESUME,k,c,r,s,l] ->
       IN(n)?RESUME,k,c,r,s,l;
       assert(r == storedSecret[n]); /* the two resume from different secrets */
       turn[n] = 3; derive(n, true); OUT(n)!RESUME,3,life[n],storedSecret[n],0,0; agreed(n, true);
       DROP
     }
  :: atomic { n == LISTENER && link[n] == CURRENT && st[n] == RESUMING && turn[n] == 2 && IN(n)?[RESUME,k,c,r,s,l] ->
       IN(n)?RESUME,k,c,r,s,l;
       assert(r == storedSecret[n]); /* the two resume from different secrets */
       turn[n] = 3; agreed(n, true);
       DROP
     }

  /* Proofs of the swarm's secret. The dialler is first. The listener has room for it, or not. */
  :: atomic { n == DIALLER && link[n] == CURRENT && st[n] == PROVING && !proofSent[n] && nfull(OUT(n)) ->
       proofSent[n] = true; seal(n, PROOF);
#ifdef BROKEN_NO_PROOF
       establish(n)
#endif
     }
  :: atomic { link[n] == CURRENT && st[n] == PROVING && (n == LISTENER || proofSent[n]) && !proofSeen[n] && nfull(OUT(n)) && nempty(IN(n)) ->
       IN(n)?kind,k,c,r,s,l;
       if
       :: kind == PROOF ->
         open(n);
         if
         :: isTaken && n == DIALLER -> proofSeen[n] = true; establish(n)
         :: isTaken && n == LISTENER -> proofSeen[n] = true; proofSent[n] = true; seal(n, PROOF)
         :: isTaken && n == LISTENER -> leave(n) /* it is full */
         :: !isTaken -> leave(n)
         fi
       :: else -> leave(n) /* out of turn */
       fi;
       DROP
     }
  :: atomic { n == LISTENER && link[n] == CURRENT && st[n] == PROVING && proofSeen[n] -> establish(n) }

  /* Messages, rekeys, and goodbyes: both may say goodbye at once. */
  :: atomic { link[n] == CURRENT && st[n] == ESTABLISHED && sent[n] < SEQUENCES && nfull(OUT(n)) -> seal(n, DATA) }
  :: atomic { link[n] == CURRENT && st[n] == ESTABLISHED && sentRekeys[n] == 0 && sent[n] < SEQUENCES -> sentRekeys[n]++ }
  :: atomic { link[n] == CURRENT && st[n] == ESTABLISHED && sent[n] < SEQUENCES && nfull(OUT(n)) -> seal(n, GOODBYE); forget(n) }
  :: atomic { link[n] == CURRENT && st[n] == ESTABLISHED && nempty(IN(n)) ->
       IN(n)?kind,k,c,r,s,l;
       open(n);
       if
       :: isTaken && kind == GOODBYE -> leave(n)
       :: isTaken && kind != GOODBYE
       :: !isTaken -> skip    /* refused; the link may go on (cut() is always possible) */
       fi;
       DROP
     }

  /* A node notices that its connection is gone. */
  :: atomic { link[n] == OLD -> forget(n) }

  /* It is stopped or killed, and started again with what is on disk. */
  :: atomic { restarts < RESTARTS && st[n] != EXPIRED && st[n] != NEW -> restarts++; leave(n) }

  /* A stored session whose time is over is gone for good, once no link uses it. */
  :: atomic { expired && link[n] == NONE && IS_IDLE(n) -> storedSid[n] = 0; storedSecret[n] = 0; storedCount[n] = 0; st[n] = EXPIRED; break }
  od
}

/* The network, with somebody in it: connections end, sealed frames are copied, held back, put back. */
proctype Network() {
  mtype:frame kind;
  byte k, c, r, s, l;
  byte taps;
  bit way;
  bool holds;

  do
  :: HAS_ENDED -> break
#ifdef BROKEN_NO_DEADLINE
  :: atomic { up && (st[DIALLER] == ESTABLISHED || st[LISTENER] == ESTABLISHED) -> cut() }
#else
  :: atomic { up -> cut() }
#endif
  :: atomic { taps < TAPS && !holds && (wire[0]?[PROOF,k,c,r,s,l] || wire[0]?[DATA,k,c,r,s,l]) ->
       wire[0]?kind,k,c,r,s,l; way = 0; holds = true; taps++;
       if :: skip :: nfull(wire[0]) -> wire[0]!kind,k,c,r,s,l fi
     }
  :: atomic { taps < TAPS && !holds && (wire[1]?[PROOF,k,c,r,s,l] || wire[1]?[DATA,k,c,r,s,l]) ->
       wire[1]?kind,k,c,r,s,l; way = 1; holds = true; taps++;
       if :: skip :: nfull(wire[1]) -> wire[1]!kind,k,c,r,s,l fi
     }
  :: atomic { up && holds && way == 0 && nfull(wire[0]) -> wire[0]!kind,k,c,r,s,l; holds = false; kind = 0; k = 0; c = 0; r = 0; s = 0; l = 0 }
  :: atomic { up && holds && way == 1 && nfull(wire[1]) -> wire[1]!kind,k,c,r,s,l; holds = false; kind = 0; k = 0; c = 0; r = 0; s = 0; l = 0; way = 0 }
  od
}

/* Sessions are stored for so long and no longer. */
proctype Timer() {
#ifdef BROKEN_NO_EXPIRY
  false;
#endif
  expired = true
}

init {
  atomic { run Node(DIALLER); run Node(LISTENER); run Network(); run Timer() }
}

#ifdef LTL_ENDS
ltl ends { <> HAS_ENDED }
#endif
