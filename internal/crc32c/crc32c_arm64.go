package crc32c

import "golang.org/x/sys/cpu"

// hasInstruction says that CRC32C exists (optional in ARMv8.0, mandatory since
// ARMv8.1).
var hasInstruction = cpu.ARM64.HasCRC32
