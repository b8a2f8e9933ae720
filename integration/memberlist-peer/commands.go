package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
)

// obey runs one command a line and answers each with a reply event:
//
//	join ADDRESS,...   members   cast TEXT   packet MEMBER TEXT   stream MEMBER TEXT   meta TEXT   ping MEMBER
//	key install|use|remove BASE64   leave   quit
func (p *peer) obey(commands io.Reader) {
	lines := bufio.NewScanner(commands)
	for lines.Scan() {
		words := append(strings.SplitN(lines.Text(), " ", 3), "", "")
		result, err := p.command(words[0], words[1], words[2])
		reply := map[string]any{"command": words[0], "result": result}
		if err != nil {
			reply["error"] = err.Error()
		}
		p.events.write("reply", reply)
		if words[0] == "quit" {
			return
		}
	}
}

func (p *peer) command(name, first, second string) (any, error) {
	switch name {
	case "join":
		return p.list.Join(strings.Split(first, ","))
	case "members":
		members := []map[string]any{}
		for _, n := range p.list.Members() {
			members = append(members, describe(n))
		}
		return members, nil
	case "cast":
		p.note(first)
		p.queue.QueueBroadcast(broadcast(first))
		return nil, nil
	case "packet", "stream":
		n, err := p.find(first)
		if err != nil {
			return nil, err
		}
		if name == "packet" {
			return nil, p.list.SendBestEffort(n, []byte(second))
		}
		return nil, p.list.SendReliable(n, []byte(second))
	case "meta":
		p.mu.Lock()
		p.meta = []byte(first)
		p.mu.Unlock()
		return nil, p.list.UpdateNode(5 * time.Second)
	case "ping":
		n, err := p.find(first)
		if err != nil {
			return nil, err
		}
		address, err := net.ResolveUDPAddr("udp", n.Address())
		if err != nil {
			return nil, err
		}
		took, err := p.list.Ping(n.Name, address)
		return took.Seconds(), err
	case "key":
		key, err := base64.StdEncoding.DecodeString(second)
		if err != nil {
			return nil, err
		}
		switch first {
		case "install":
			return nil, p.keys.AddKey(key)
		case "use":
			return nil, p.keys.UseKey(key)
		}
		return nil, p.keys.RemoveKey(key)
	case "leave":
		return nil, p.list.Leave(5 * time.Second)
	case "quit":
		return nil, p.list.Shutdown()
	}
	return nil, fmt.Errorf("no such command: %s", name)
}

func (p *peer) find(name string) (*memberlist.Node, error) {
	for _, n := range p.list.Members() {
		if n.Name == name {
			return n, nil
		}
	}
	return nil, fmt.Errorf("%s is not a member", name)
}
