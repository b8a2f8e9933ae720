// memberlist-peer is HashiCorp's memberlist as a process of its own: one node that is told what to do on standard input,
// or, with -n, as many as asked for in one process, measured. Built from Debian's packages (see peer.ts).
package main

import (
	"encoding/base64"
	"encoding/json"
	"flag"
	"io"
	"os"
	"time"
)

func main() {
	name := flag.String("name", "peer", "")
	bind := flag.String("bind", "127.0.0.1", "")
	port := flag.Int("port", 7946, "")
	meta := flag.String("meta", "", "")
	key := flag.String("key", "", "base64; 16, 24 or 32 bytes")
	compress := flag.Bool("compress", true, "")
	protocol := flag.Uint("protocol", 2, "version spoken, 1 to 5")
	delegate := flag.Bool("serf", false, "speak Serf's delegate versions, so that Serf's agents accept it")
	n := flag.Int("n", 0, "measure that many nodes")
	measure := bench{}
	flag.IntVar(&measure.kills, "kills", 0, "how many end without a word; 0: measure joining only")
	flag.IntVar(&measure.casts, "casts", 9, "")
	flag.DurationVar(&measure.steady, "steady", 30*time.Second, "how long to look at the quiet cluster")
	flag.Parse()

	secret, err := base64.StdEncoding.DecodeString(*key)
	if err != nil {
		fail("key", err)
	}
	if *n > 0 {
		measure.run(*n, options{key: secret, compress: *compress, protocol: 2, logs: io.Discard})
		return
	}
	events := &journal{out: json.NewEncoder(os.Stdout)}
	p := newPeer(options{name: *name, address: *bind, port: *port, key: secret, compress: *compress, protocol: uint8(*protocol), serf: *delegate, meta: []byte(*meta), logs: os.Stderr, events: events})
	events.write("ready", map[string]any{"name": *name})
	p.obey(os.Stdin)
}
