package main

import "golang.org/x/sys/unix"

// oldRefusables are those that have another name here.
var oldRefusables = []refusable{{"newfstatat", unix.SYS_FSTATAT, ofDisk, ""}}
