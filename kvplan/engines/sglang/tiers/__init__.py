"""Host memory and disks below SGLang's GPU pools."""
