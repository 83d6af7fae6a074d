package cli

// topContainerCommands are the container commands that stand alone.
func topContainerCommands() []entry {
	var top []entry
	for _, e := range containerCommands() {
		switch e.name {
		case "list":
			e.name, e.aliases = "ps", nil
		case "diff":
			e.short, e.build = "Display the changes to the object's file system", diffCommand
		case "checkpoint", "cleanup", "clone", "exists", "inspect", "prune", "restore", "runlabel":
			continue
		}
		top = append(top, e)
	}
	return top
}

// containerCommands are the commands of the group container.
func containerCommands() []entry {
	return append([]entry{
		{name: "attach", short: "Attach to a running container", build: attachCommand},
		{name: "checkpoint", short: "Checkpoint one or more containers", build: checkpointCommand},
		{name: "cleanup", short: "Clean up what ended containers have left", build: cleanupCommand},
		{name: "commit", short: "Create new image based on the changed container", build: commitCommand},
		{name: "cp", short: "Copy files/folders between a container and the local filesystem", build: cpCommand},
		{name: "create", short: "Create but do not start a container", build: createCommand},
		{name: "diff", short: "Inspect changes to the container's file systems", build: containerDiffCommand},
		{name: "exec", short: "Run a process in a running container", build: execCommand},
		{name: "exists", short: "Check if a container exists in local storage", build: containerExistsCommand},
		{name: "export", short: "Export container's filesystem contents as a tar archive", build: exportCommand},
		{name: "inspect", short: "Display the configuration of a container", build: containerInspectCommand},
		{name: "kill", short: "Kill one or more running containers with a specific signal", build: killCommand},
		{name: "list", aliases: []string{"ls", "ps"}, short: "List containers", build: psCommand},
		{name: "logs", short: "Fetch the logs of one or more containers", build: logsCommand},
		{name: "pause", short: "Pause all the processes in one or more containers", build: pauseCommand},
		{name: "port", short: "List port mappings or a specific mapping for the container", build: portCommand},
		{name: "prune", short: "Remove all non running containers", build: pruneCommand},
		{name: "rename", short: "Rename an existing container", build: renameCommand},
		{name: "restart", short: "Restart one or more containers", build: restartCommand},
		{name: "restore", short: "Restore one or more containers from a checkpoint", build: restoreCommand},
		{name: "rm", aliases: []string{"remove"}, short: "Remove one or more containers", build: rmCommand},
		{name: "run", short: "Run a command in a new container", build: runCommand},
		{name: "start", short: "Start one or more containers", build: startCommand},
		{name: "stats", short: "Display a live stream of container resource usage statistics", build: statsCommand},
		{name: "stop", short: "Stop one or more containers", build: stopCommand},
		{name: "top", short: "Display the running processes of a container", build: topCommand},
		{name: "unpause", short: "Unpause the processes in one or more containers", build: unpauseCommand},
		{name: "update", short: "Change the limits and restart policy of a container", build: updateCommand},
		{name: "wait", short: "Block on one or more containers to stop and print their exit codes", build: waitCommand},
	}, notYet("clone", "init", "mount", "runlabel", "umount", "unmount")...)
}
