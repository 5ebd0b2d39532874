"""The soak (`make soak`): mixed load with faults for an hour; do memory and descriptors stay where they were?"""
