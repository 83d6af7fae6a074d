// Command hello is what the image cove.local/hello runs: a first container
// that needs no registry.
package main

import (
	"os"
	"runtime"
)

func main() {
	host, _ := os.Hostname()
	_, _ = os.Stdout.WriteString("Hello from a container.\n\n" +
		"This is process " + itoa(os.Getpid()) + " of " + host + ", linux/" + runtime.GOARCH + ".\n" +
		"cove made its namespaces, mounts, cgroups, network and seccomp filter, and is\n" +
		"waiting for it to end. Next:\n\n" +
		"  cove run -it docker.io/library/alpine sh\n" +
		"  cove run -d -p 8080:80 docker.io/library/nginx\n" +
		"  cove ps -a\n")
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + itoa(n%10)
}
