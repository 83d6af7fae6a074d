// Package cgroup makes, limits, freezes, empties, measures and removes the
// control groups of containers, on version 1, hybrid and version 2 hosts,
// through the cgroup file system alone (the cgroupfs manager).
//
// [Detect] finds the hierarchies; [Layout.Set], which is pure, turns an OCI
// resources section into a [Set], which is data; [Set.Make] carries it out.
// Everything else works on the directories alone, so that whoever has only
// recorded them can empty and remove a container's cgroups.
//
// Paths such as "/cove/ID" begin at the root that is visible to the caller:
// inside a container that is the container's own cgroup. For a user who is not
// root they begin at the cgroup that was delegated to him.
//
// Facts of the kernel are from Documentation/admin-guide/cgroup-v1 and
// cgroup-v2.rst; the conversions of version 1 values to version 2 are those
// that runc and crun share.
package cgroup
