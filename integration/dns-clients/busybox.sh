#!/bin/sh
# What busybox's own client gets: busybox.sh TYPE/NAME... prints as libc.c does.
for question; do
  name=${question#*/}
  type=${question%%/*}
  case $type in
    BOTH) found=$(nslookup "$name" | awk '/^Name:/ { named = 1 } named && /^Address:/ { print $2 }') ;;
    PTR) found=$(nslookup "$name" | awk '/name = / { print $NF }') ;;
    *) found=$(nslookup -type="$type" "$name" | awk '/^Name:/ { named = 1 } named && /^Address:/ { print $2 }') ;;
  esac
  echo "$question:" $(echo "$found" | sort)
done
