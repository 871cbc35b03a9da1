"""Host memory and disks below vLLM's GPU cache: how many tokens a budget holds, connector by connector."""
