#!/bin/sh
# What a program gets from glibc by way of nsswitch: getent.sh TYPE/NAME... prints as libc.c does.
for question; do
  name=${question#*/}
  case $question in
    A/*) found=$(getent -A ahostsv4 "$name" | awk '$2 == "STREAM" { print $1 }') ;;
    AAAA/*) found=$(getent -A ahostsv6 "$name" | awk '$2 == "STREAM" && $1 !~ /^::ffff:/ { print $1 }') ;;
    BOTH/*) found=$(getent -A ahosts "$name" | awk '$2 == "STREAM" { print $1 }') ;;
    PTR/*) found=$(getent hosts "$name" | awk '{ print $2 }') ;;
  esac
  echo "$question:" $(echo "$found" | sort)
done
