package crc32c

import "golang.org/x/sys/cpu"

// hasInstruction says that CRC32 exists (SSE 4.2: x86-64-v2, every server and
// desktop processor since about 2011).
var hasInstruction = cpu.X86.HasSSE42
