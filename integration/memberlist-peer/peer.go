package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// journal writes what happens as one JSON object a line.
type journal struct {
	mu  sync.Mutex
	out *json.Encoder
}

func (j *journal) write(event string, fields map[string]any) {
	if j == nil {
		return
	}
	fields["event"] = event
	j.mu.Lock()
	defer j.mu.Unlock()
	j.out.Encode(fields)
}

type options struct {
	name, address string
	port          int
	key           []byte
	compress      bool
	protocol      uint8
	serf          bool
	meta          []byte
	logs          io.Writer
	events        *journal
}

// peer is one node, and its own delegate. User messages are passed on once, as Serf and networkdb do.
type peer struct {
	list   *memberlist.Memberlist
	keys   *memberlist.Keyring // nil: in the clear
	queue  *memberlist.TransmitLimitedQueue
	events *journal
	mu     sync.Mutex
	meta   []byte
	heard  map[string]time.Time // message -> first arrival
	lost   map[string]time.Time // member -> when it failed or left
	killed bool
}

func newPeer(o options) *peer {
	p := &peer{events: o.events, meta: o.meta, heard: map[string]time.Time{}, lost: map[string]time.Time{}}
	c := memberlist.DefaultLANConfig()
	c.Name, c.BindAddr, c.BindPort, c.AdvertiseAddr, c.AdvertisePort = o.name, o.address, o.port, o.address, o.port
	c.EnableCompression, c.LogOutput, c.ProtocolVersion = o.compress, o.logs, o.protocol
	if len(o.key) > 0 {
		keys, err := memberlist.NewKeyring(nil, o.key)
		if err != nil {
			fail("key", err)
		}
		p.keys, c.Keyring = keys, keys
	}
	if o.serf {
		c.DelegateProtocolMin, c.DelegateProtocolMax, c.DelegateProtocolVersion = 2, 5, 4
	}
	c.Delegate, c.Events = p, p
	p.queue = &memberlist.TransmitLimitedQueue{RetransmitMult: c.RetransmitMult, NumNodes: func() int {
		if p.list == nil {
			return 1
		}
		return p.list.NumMembers()
	}}
	list, err := memberlist.Create(c)
	if err != nil {
		fail("create", err)
	}
	p.list = list
	return p
}

func fail(what string, err error) {
	fmt.Fprintln(os.Stderr, what+":", err)
	os.Exit(1)
}

// broadcast implements memberlist.Broadcast for a message that nothing replaces.
type broadcast []byte

func (b broadcast) Invalidates(memberlist.Broadcast) bool { return false }
func (b broadcast) Message() []byte                       { return b }
func (b broadcast) Finished()                             {}
func (b broadcast) UniqueBroadcast()                      {}

func (p *peer) NodeMeta(int) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.meta
}
func (p *peer) GetBroadcasts(overhead, limit int) [][]byte {
	return p.queue.GetBroadcasts(overhead, limit)
}
func (p *peer) LocalState(bool) []byte        { return nil }
func (p *peer) MergeRemoteState([]byte, bool) {}

func (p *peer) NotifyMsg(message []byte) {
	if p.note(string(message)) {
		p.queue.QueueBroadcast(broadcast(append([]byte(nil), message...)))
		p.events.write("message", map[string]any{"base64": base64.StdEncoding.EncodeToString(message)})
	}
}

// note says whether the message is new.
func (p *peer) note(message string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.heard[message]; known {
		return false
	}
	p.heard[message] = time.Now()
	return true
}

func (p *peer) NotifyJoin(n *memberlist.Node)   { p.events.write("join", describe(n)) }
func (p *peer) NotifyUpdate(n *memberlist.Node) { p.events.write("update", describe(n)) }
func (p *peer) NotifyLeave(n *memberlist.Node) {
	p.mu.Lock()
	if _, known := p.lost[n.Name]; !known {
		p.lost[n.Name] = time.Now()
	}
	p.mu.Unlock()
	p.events.write("leave", describe(n))
}

func describe(n *memberlist.Node) map[string]any {
	return map[string]any{"name": n.Name, "address": n.Addr.String(), "port": n.Port, "meta": base64.StdEncoding.EncodeToString(n.Meta), "state": int(n.State)}
}
