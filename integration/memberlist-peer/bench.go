package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"
)

// bench measures a whole cluster in this process, on addresses 127.1.x.y of a network namespace in which nothing else
// talks: bytes and packets are those of the loopback device. bench/gossip-nodes.ts measures ours in the same way.
type bench struct {
	kills, casts int
	steady       time.Duration
}

func (b bench) run(n int, o options) {
	memoryBefore := resident()
	peers := make([]*peer, n)
	for i := range peers {
		o.name, o.address, o.port = fmt.Sprintf("node-%03d", i), fmt.Sprintf("127.1.%d.%d", i/250, 1+i%250), 7946
		peers[i] = newPeer(o)
	}
	result := map[string]any{"join_s": joinAll(peers)}
	if b.kills > 0 {
		time.Sleep(8 * time.Second)
		result["broadcast_ms"] = b.broadcasts(peers)
		time.Sleep(8 * time.Second)
		cpu, bytes, packets, start := processor(), 0.0, 0.0, time.Now()
		bytesBefore, packetsBefore := loopback()
		time.Sleep(b.steady)
		seconds := time.Since(start).Seconds()
		bytes, packets = loopback()
		each := func(total float64) float64 { return total / seconds / float64(n) }
		result["bytes_per_s"], result["packets_per_s"], result["cpu_percent"] = each(bytes-bytesBefore), each(packets-packetsBefore), each(processor()-cpu)*100
		runtime.GC()
		result["memory_kib"] = (resident() - memoryBefore) / 1024 / float64(n)
		result["detect_s"] = b.detections(peers)
	}
	json.NewEncoder(os.Stdout).Encode(result)
}

// joinAll has all join the first at once; returns the seconds until all know all, or 360.
func joinAll(peers []*peer) float64 {
	start, n := time.Now(), len(peers)
	var joining sync.WaitGroup
	for _, p := range peers[1:] {
		joining.Add(1)
		go func(p *peer) {
			defer joining.Done()
			if _, err := p.list.Join([]string{"127.1.0.1:7946"}); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}(p)
	}
	joining.Wait()
	until(peers, 6*time.Minute, func(p *peer) bool { return p.list.NumMembers() == n })
	return time.Since(start).Seconds()
}

// broadcasts returns for each the milliseconds until all have it.
func (b bench) broadcasts(peers []*peer) []float64 {
	took := []float64{}
	for k := 0; k < b.casts; k++ {
		message := fmt.Sprintf("%-64d", k)
		source := peers[(k*7)%len(peers)]
		start := time.Now()
		source.note(message)
		source.queue.QueueBroadcast(broadcast(message))
		took = append(took, lastOf(peers, start, 30*time.Second, func(p *peer) (time.Time, bool) { at, ok := p.heard[message]; return at, ok })*1000)
		time.Sleep(time.Second)
	}
	return took
}

// detections returns for each the seconds from an end without a word until all others take the node for dead.
func (b bench) detections(peers []*peer) []float64 {
	took := []float64{}
	for k := 0; k < b.kills; k++ {
		victim := peers[len(peers)-1-k]
		name := victim.list.LocalNode().Name
		victim.killed = true
		start := time.Now()
		victim.list.Shutdown()
		took = append(took, lastOf(peers, start, 2*time.Minute, func(p *peer) (time.Time, bool) { at, ok := p.lost[name]; return at, ok }))
		time.Sleep(2 * time.Second)
	}
	return took
}

// lastOf returns the seconds from start until the last peer's moment.
func lastOf(peers []*peer, start time.Time, limit time.Duration, moment func(*peer) (time.Time, bool)) float64 {
	get := func(p *peer) (time.Time, bool) {
		p.mu.Lock()
		defer p.mu.Unlock()
		return moment(p)
	}
	until(peers, limit, func(p *peer) bool { _, ok := get(p); return ok })
	times := []float64{}
	for _, p := range peers {
		if p.killed {
			continue
		}
		if at, ok := get(p); ok {
			times = append(times, at.Sub(start).Seconds())
		} else {
			times = append(times, limit.Seconds())
		}
	}
	sort.Float64s(times)
	return times[len(times)-1]
}

func until(peers []*peer, limit time.Duration, condition func(*peer) bool) {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(time.Duration(2+len(peers)/10) * time.Millisecond) {
		all := true
		for _, p := range peers {
			if !p.killed && !condition(p) {
				all = false
				break
			}
		}
		if all {
			return
		}
	}
}

// processor returns the seconds that this process has computed.
func processor() float64 {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return float64(usage.Utime.Sec+usage.Stime.Sec) + float64(usage.Utime.Usec+usage.Stime.Usec)/1e6
}

// resident returns bytes.
func resident() float64 {
	text, _ := os.ReadFile("/proc/self/statm")
	var size, pages float64
	fmt.Sscan(string(text), &size, &pages)
	return pages * float64(os.Getpagesize())
}

// loopback returns what the device has carried, with link and IP headers.
func loopback() (bytes, packets float64) {
	text, _ := os.ReadFile("/proc/net/dev")
	for _, line := range strings.Split(string(text), "\n") {
		if _, counters, found := strings.Cut(line, "lo:"); found {
			fmt.Sscan(counters, &bytes, &packets)
		}
	}
	return
}
