// What a program gets from Go's own resolver: resolve TYPE/NAME... prints as libc.c does.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"sort"
	"strings"
)

func main() {
	resolver := &net.Resolver{PreferGo: true}
	families := map[string]string{"A": "ip4", "AAAA": "ip6", "BOTH": "ip"}
	for _, question := range os.Args[1:] {
		kind, name, _ := strings.Cut(question, "/")
		var found []string
		if kind == "PTR" {
			names, _ := resolver.LookupAddr(context.Background(), name)
			for _, each := range names {
				found = append(found, strings.TrimSuffix(each, "."))
			}
		} else {
			addresses, _ := resolver.LookupIP(context.Background(), families[kind], name)
			for _, each := range addresses {
				found = append(found, each.String())
			}
		}
		sort.Strings(found)
		fmt.Println(strings.TrimSpace(question + ": " + strings.Join(found, " ")))
	}
}
