"""What is known of LMDeploy without loading it."""

from typing import Final

from kvplan.engines.kernel.about import About, Share

ABOUT: Final = About(
    name="lmdeploy",
    share=Share(
        meaning="of free after loading",
        flag="--cache-max-entry-count {}",
        split_flag="--tp {}",
        source="lmdeploy docs",
        rank=1,
    ),
)
