package main

import "golang.org/x/sys/unix"

// oldRefusables are the calls that newer machines do without.
var oldRefusables = []refusable{
	{"newfstatat", unix.SYS_NEWFSTATAT, ofDisk, ""},
	{"epoll_wait", unix.SYS_EPOLL_WAIT, interrupted, ""}, {"poll", unix.SYS_POLL, interrupted, ""},
}
